"""How long a checkpoint keeps training waiting, lazily and in other ways, and what kill -9 leaves.

    python benchmarks/lazy_checkpoint.py [--mib 400] [--rounds 6] [--kills 30]

A network and `torch.optim.AdamW` train on one thread; every way to write their state takes turns, one checkpoint in
`steps` steps. "stall" is what training stands still: in the call, and before the optimizer's step. "torch.save over"
says how many times as long `torch.save` stalls in the same round. "steps" is the time of all steps over that without
a checkpoint. "stager" is `torch.distributed.checkpoint.async_save` with torch's `DefaultStager`. Below stand the limits
of the machine, one copy of so much memory and one write to the disk: a way that copies before it returns can't be
faster than the first, and no two files can follow each other faster than the second.
"""

from __future__ import annotations

import statistics
import tempfile
from typing import Any

import cyclopts
from _interleaved import spread

from sooner.claims._stalls import QUIET, WAYS, stalls
from sooner.claims.lazy_saver import killed

AGAINST = {"torch.save": 400, "stager": 10}
"""How many times less the lazy saver is to stall."""


def main(*, mib: float = 400.0, rounds: int = 6, steps: int = 6, kills: int = 30) -> None:
    """Print a row for every way.

    Args:
        mib: weights and optimizer state.
        rounds: how often every way has its turn.
        steps: of a turn, behind one checkpoint.
        kills: processes to kill while they write; 0 leaves that out.
    """
    found = stalls(mib, rounds, steps)
    waited = statistics.median(found["waited"])
    print(f"== {found['mib']:.0f} MiB of weights and optimizer state, float32, one thread; {tempfile.gettempdir()}")
    print(f"guard: the thread waited for a core {100 * waited:.1f} % of the time ({verdict(waited)})")
    print(f"  {'':20} {'stall in ms':>28} {'torch.save over':>28} {'steps':>22}")
    for name in WAYS:
        stall = spread(found[f"stall {name}"])
        over = ratios(found, "stall torch.save", f"stall {name}") if name != "none" else ""
        print(f"  {name:20} {stall:>28} {over:>28} {ratios(found, f'steps {name}', 'steps none'):>22}")
    for base, wanted in AGAINST.items():
        times = ratios(found, f"stall {base}", "stall lazy")
        print(f"  lazy stalls {times} times less than {base} (target {wanted})")
    size = found["mib"] / 1024
    print(f"  forward and backward take {spread(found['compute'])} ms, behind which the copies run")
    print(f"  one copy of the memory {found['copy']:.0f} ms ({size / found['copy'] * 1e3:.1f} GiB/s)")
    print(f"  one write to the disk {found['disk']:.0f} ms ({size / found['disk'] * 1e3:.2f} GiB/s)", flush=True)
    if kills:
        left = killed(kills, 0)
        print(
            f"  {kills} processes killed as they wrote: {left['finished']} finished files, {left['broken']} damaged, "
            f"{left['under_way']} were under way"
        )


def ratios(found: dict[str, Any], above: str, below: str) -> str:
    """Return the median, lowest and highest ratio of two rows over the rounds."""
    return spread([a / b for a, b in zip(found[above], found[below], strict=True)])


def verdict(waited: float) -> str:
    """Return whether the figures can be read."""
    return "quiet" if waited <= QUIET else "CONTENDED, do not believe what follows"


if __name__ == "__main__":
    cyclopts.run(main)
