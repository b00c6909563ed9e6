"""How much memory the first step takes at its peak and what stays, in copies of the weights, beside torch's classes.

    python benchmarks/memory_peak.py [--methods muon --methods adamw] [--executors native] [--threads 2]

Every row is a process of its own, which first steps a small model of the same kind, so that code is loaded and
compiled, and then makes 12 matrices of 1024 x 2048 in float32 with their gradients. From there on is counted, as the
operating system counts resident memory (Linux), with malloc told to hand back whatever is freed:

- peak: the most that was resident during the first step, less what was resident before the optimizer was made;
- kept: what is resident after the step, after a garbage collection and `malloc_trim`, less the same.

Both are divided by the bytes of the weights. Weights and gradients are in neither, so AdamW's two moments make 2. All
that the step allocates is counted, whoever does: temporaries, what an executor keeps for the next step, and buffers of
the matrix products (which torch's Muon has as well). "to torch" is the ratio to the class of torch that is the same
method, as it is by default.

A second table makes the gradients by backward, inside of what is counted: all of them together make 1 more, and
`gradient_release` makes them one by one.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import torch
from torch import nn
from torch.optim import Optimizer

from sooner import part
from sooner.error import SoonerError
from sooner.execute import using
from sooner.recipe import Recipe

LARGEST = 1.1
"""Target for Muon and AdamW: peak and kept over torch's."""

SHAPE = (12, 1024, 2048)
"""Number of matrices, rows and columns."""

METHODS = ("muon", "root", "apollo", "adamw", "adamp", "adagrad_norm", "sgd", "adamw + low_bit_state")

WITH_BACKWARD = (
    "adamw",
    "adamw + gradient_release",
    "adamw + low_bit_state + gradient_release",
    "adamw + low_bit_state(bits=4) + gradient_release",
)

TORCH: dict[str, Callable[[list[nn.Parameter]], Optimizer]] = {
    "torch muon": lambda params: torch.optim.Muon(params),
    "torch adamw": lambda params: torch.optim.AdamW(params),
    "torch adamw (foreach)": lambda params: torch.optim.AdamW(params, foreach=True),
    "torch adamw (fused)": lambda params: torch.optim.AdamW(params, fused=True),
    "torch sgd": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
}

PAGES_GO_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_TOP_PAD_": "0"}
"""For glibc: what is freed leaves the process at once, so that resident memory is memory in use."""


class Layers(nn.Module):
    """Matrices between an embedding and a head that are too small to count, so that every method knows its own."""

    def __init__(self, count: int, rows: int, columns: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1, 1)
        self.layers = nn.ModuleList(nn.Linear(columns, rows, bias=False) for _ in range(count))
        self.head = nn.Linear(1, 1, bias=False)


def resident(field: str) -> int:
    """Return VmRSS or VmHWM of this process in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise SoonerError("this system does not say how much memory a process has; use Linux")


def settled() -> int:
    """Return the resident bytes once everything that can be freed is."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return resident("VmRSS")


def make(name: str, model: Layers) -> Any:
    if name in TORCH:
        return TORCH[name]([layer.weight for layer in model.layers])  # type: ignore[misc]
    return Recipe(name).build(model, 1) if "+" in name else part.load(name)(model)  # type: ignore[call-arg]


def by_backward(model: Layers) -> None:
    """Find gradients of all layers, the last one's first."""
    x = torch.full((1, model.layers[0].weight.shape[1]), 1e-3)
    torch.autograd.backward(sum(layer(x).sum() for layer in model.layers))


def with_gradients(model: Layers) -> Layers:
    for p in model.parameters():
        p.grad = torch.full_like(p, 1e-3)
        p.grad.view(-1)[::7] = -2e-3
    return model


def one_step(name: str, executor: str, shape: tuple[int, int, int], backward: bool) -> dict[str, float]:
    """Return peak and kept of the first step in this process, in copies of the weights, backward included or not."""
    torch.manual_seed(0)
    with using(executor):
        warm = Layers(2, 16, 32)
        stepper = make(name, warm)
        by_backward(warm)
        stepper.step()
        del warm, stepper
        model = Layers(*shape) if backward else with_gradients(Layers(*shape))
        before = settled()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM starts anew
        optimizer = make(name, model)
        if backward:
            by_backward(model)
        optimizer.step()
        peak = resident("VmHWM")
        kept = settled()
    copy = 4 * shape[0] * shape[1] * shape[2]
    return {"peak": (peak - before) / copy, "kept": (kept - before) / copy}


def in_new_process(job: dict[str, Any]) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, "--job", json.dumps(job)],
        env={**os.environ, **PAGES_GO_BACK},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(
    *,
    methods: tuple[str, ...] = METHODS,
    executors: tuple[str, ...] = ("eager", "native"),
    threads: int | None = None,
    shape: tuple[int, int, int] = SHAPE,
    rounds: int = 3,
    job: Annotated[str, cyclopts.Parameter(show=False)] = "",
) -> None:
    """Print a row for every method and executor, and for torch's class of the same method.

    Args:
        methods: update parts.
        executors: of "auto", "eager", "native", "inductor", "triton".
        threads: default as many as torch takes.
        shape: number of matrices, rows and columns.
        rounds: processes per row; the median is shown.
        job: what a process that this one started is to do, as JSON.
    """
    if job:
        asked = json.loads(job)
        torch.set_num_threads(asked["threads"])
        print(json.dumps(one_step(asked["name"], asked["executor"], tuple(asked["shape"]), asked["backward"])))
        return
    threads = threads or torch.get_num_threads()
    count, rows, columns = shape
    copy = f"{4 * count * rows * columns / 2**20:.0f} MiB"
    print(f"{count} matrices {rows} x {columns}, float32: copies of the weights ({copy}), threads: {threads}")
    print(f"  {'':48} {'peak':>6} {'to torch':>9} {'kept':>6} {'to torch':>9} {'target':>7}")

    def row(name: str, executor: str, beside: dict[str, float] | None, *, backward: bool = False) -> dict[str, float]:
        asked = {"name": name, "executor": executor, "threads": threads, "shape": shape, "backward": backward}
        several = [in_new_process(asked) for _ in range(rounds)]
        found = {key: statistics.median(one[key] for one in several) for key in several[0]}
        label = name if name in TORCH or backward else f"{name} [{executor}]"
        ratios = {key: f"{found[key] / beside[key]:.2f}" if beside else "" for key in found}
        aim = f"<= {LARGEST}" if beside and name in ("muon", "adamw") else ""
        print(
            f"  {label:48} {found['peak']:6.2f} {ratios['peak']:>9} {found['kept']:6.2f} {ratios['kept']:>9} {aim:>7}",
            flush=True,
        )
        return found

    for method in methods:
        rivals = [name for name in TORCH if name.split(" (")[0] == f"torch {method.split(' + ')[0]}"]
        measured = [row(name, "auto", None) for name in rivals]
        for executor in executors:
            row(method, executor, measured[0] if measured else None)
    print("with the gradients that backward makes")
    for text in WITH_BACKWARD:
        row(text, "auto", None, backward=True)


if __name__ == "__main__":
    cyclopts.run(main)
