"""No sequence of edits, casts, resizes, surgery and copies ends in a wrong step, a raw error or a crash.

`make test` runs a few sequences, the same every time. `make fuzz` runs as many as $SOONER_FUZZ says for each executor,
other ones every time, in processes of their own (see `run_sequences`).
"""

import os

import pytest
from run_sequences import check, run

EXAMPLES = int(os.environ.get("SOONER_FUZZ", "0"))
METHODS = ("adamw", "sgd", "adabelief", "diffgrad", "adamp", "sgdp", "normalized_gd", "adagrad_norm", "muon")
ELEMENT = ("adamw", "sgd", "adabelief", "diffgrad")
QUICK = {
    "eager": METHODS,
    "native": ("adamw", "sgd", "adamp"),
    "native, Python": ("adamw",),
    "auto": ("torch_adamw", "torch_sgd"),
}
LONG = {
    "eager": METHODS,
    "native": METHODS,
    "native, Python": ELEMENT,
    "inductor": ("adamw", "adamp"),
    "auto": ("torch_adamw", "torch_sgd"),
}
COMPILES = 50
"""How many times fewer sequences inductor gets, which compiles for seconds whenever a layout changes."""


def pairs(methods):
    return [pytest.param(m, executor, id=f"{m}-{executor}") for executor, some in methods.items() for m in some]


@pytest.mark.timeout(4 * 3600 if EXAMPLES else 1200)
@pytest.mark.parametrize(("method", "executor"), pairs(LONG if EXAMPLES else QUICK))
def test_sequences(method, executor):
    if not EXAMPLES:
        check(method, executor, 5, same_every_time=True)
        return
    share = EXAMPLES // len(LONG[executor])
    print(run(method, executor, max(1, share // COMPILES if executor == "inductor" else share)))
