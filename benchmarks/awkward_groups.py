"""What a step of AdamW costs where grouping is hard, as a ratio to torch.optim.AdamW, and what checking costs.

    python benchmarks/awkward_groups.py [--executors native --executors eager] [--threads 1] [--rounds 7]

- "a group for every tensor": 465 groups of one tensor of 64 x 64, all with one learning rate, and each with one of its
  own as layer-wise rates have it; torch steps groups one by one in either case. Beside its for-loop and fused.
- "4 of 64 experts": of 64 tensors of 256 x 256 only 4 have a gradient, other ones at every step, as in a mixture of
  experts. Beside foreach and fused.
- "checks": the list "small" (150 tensors, 1 million parameters), beside the same step without the comparison by which
  every step notices that a group was edited or a parameter replaced, cast or moved: there nothing is looked at, and the
  addresses are those of the step before. Once compared in one call of C++, once tensor by tensor in Python.

All candidates of a table step the same tensors in turn in one process; on one thread it is processor time that counts.
Handing out the gradients is timed by itself and taken off every figure.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Mapping

import cyclopts
import torch
from _interleaved import Round, block_length, interleave, spread
from _lists import make
from torch import nn
from torch.optim import Optimizer

from sooner.execute import using
from sooner.execute.snapshot import HELPER
from sooner.update import AdamW

GROUPS = (465, 64)
"""Number of groups, and rows and columns of the tensor of each."""

EXPERTS = (64, 4, 256)
"""Number of experts, how many of them are used in a step, and rows and columns of each."""

LARGEST_CHECK = 1.03
"""Target for the step with checks over the step without, on the list "small"."""

SETS = 32
"""Sets of experts that are used in turn."""

Candidates = Mapping[str, Callable[[], object]]


def _with(executor: str, optimizer: Optimizer) -> Callable[[], object]:
    def step() -> None:
        with using(executor):
            optimizer.step()

    return step


def grouped(
    executors: tuple[str, ...], groups: int, side: int, rates: int
) -> tuple[dict[str, Callable[[], object]], str]:
    """Return the candidates for a group for every tensor, and which of them the others are compared with."""
    torch.manual_seed(0)
    params = [nn.Parameter(torch.randn(side, side)) for _ in range(groups)]
    for p in params:
        p.grad = 1e-3 * torch.randn_like(p)

    def apart() -> list[dict[str, object]]:
        return [{"params": [p], "lr": 1e-3 / (1 + i % rates)} for i, p in enumerate(params)]

    steps = {f"adamw [{executor}]": _with(executor, AdamW(apart())) for executor in executors}
    steps["torch for-loop"] = torch.optim.AdamW(apart(), foreach=False).step
    steps["torch fused"] = torch.optim.AdamW(apart(), fused=True).step
    return steps, "torch for-loop"


def experts(
    executors: tuple[str, ...], count: int, used: int, side: int
) -> tuple[dict[str, Callable[[], object]], str]:
    """Return the candidates for changing sets of gradients, and which of them the others are compared with."""
    torch.manual_seed(0)
    params = [nn.Parameter(torch.randn(side, side)) for _ in range(count)]
    gradient = 1e-3 * torch.randn(side, side)
    sets = [set(torch.randperm(count)[:used].tolist()) for _ in range(SETS)]

    def routed(step: Callable[[], object]) -> Callable[[], None]:
        turns = itertools.cycle(sets)

        def run() -> None:
            chosen = next(turns)
            for i, p in enumerate(params):
                p.grad = gradient if i in chosen else None
            step()

        return run

    steps = {f"adamw [{executor}]": routed(_with(executor, AdamW(params))) for executor in executors}
    steps["torch foreach"] = routed(torch.optim.AdamW(params, foreach=True).step)
    steps["torch fused"] = routed(torch.optim.AdamW(params, fused=True).step)
    steps["gradients alone"] = routed(lambda: None)
    return steps, "torch foreach"


def checks(executors: tuple[str, ...]) -> tuple[dict[str, Callable[[], object]], str]:
    """Return the step with and without its checks under the first executor, and which of them is the reference."""
    model = make("small")
    with_checks, in_python, without = AdamW(model), AdamW(model), AdamW(model)
    in_python.step()
    for _, cohort in in_python._plan._cohorts:
        cohort._compares = False
    for _ in range(4):  # until the plan has seen itself hold
        _with(executors[0], without)()
    (_, cohort), *_ = without._plan._cohorts
    with torch.no_grad():
        assert cohort.fits()
        assert cohort.find_gradients()
    known = dict(cohort.addresses)

    def believe(*_: object) -> bool:
        cohort.addresses = dict(known)
        return True

    without._plan._holds = believe  # type: ignore[method-assign]
    without._plan._find_gradients = lambda: True  # type: ignore[method-assign]
    steps = {
        "adamw, checked": _with(executors[0], with_checks),
        "checked in Python": _with(executors[0], in_python),
        "without checks": _with(executors[0], without),
    }
    return steps, "without checks"


def measure(steps: Candidates, reference: str, rounds: int, target: float = 1.0) -> None:
    """Print a row for every candidate: milliseconds, and the ratio to the reference in every round."""
    for step in steps.values():  # every expert has had its turn, so that all state is there
        for _ in range(SETS):
            step()
    timed = interleave(steps, rounds, {name: block_length(step) for name, step in steps.items()})

    def seconds(name: str, one: Round) -> float:
        clock = one.cpu if torch.get_num_threads() == 1 else one.wall
        return clock[name] - clock.get("gradients alone", 0.0)

    print(f"  {'':24} {'ms':>8} {f'ratio to {reference}':>28} {'target':>7}")
    for name in steps:
        if name == "gradients alone":
            continue
        ratios = [seconds(name, r) / seconds(reference, r) for r in timed]
        aim = f"<= {target:.2f}" if name.startswith("adamw") else ""
        middle = 1e3 * statistics.median(seconds(name, r) for r in timed)
        print(f"  {name:24} {middle:8.3f} {spread(ratios):>28} {aim:>7}", flush=True)


def main(
    *,
    executors: tuple[str, ...] = ("auto",),
    threads: int = 1,
    rounds: int = 7,
    groups: tuple[int, int] = GROUPS,
    mixture: tuple[int, int, int] = EXPERTS,
) -> None:
    """Print the tables.

    Args:
        executors: of "auto", "eager", "native", "inductor", "triton".
        threads: default 1: the tensors are small.
        rounds: how often every candidate has its turn.
        groups: number of groups, and rows and columns of the tensor of each.
        mixture: number of experts, how many are used in a step, and rows and columns of each.
    """
    torch.set_num_threads(threads)
    HELPER.make()
    for rates, words in ((1, "one learning rate"), (groups[0], "rates of their own")):
        print(
            f"== a group for every tensor: {groups[0]} groups, {groups[1]} x {groups[1]}, {words}, threads: {threads}"
        )
        measure(*grouped(executors, *groups, rates), rounds)
    print(f"== {mixture[1]} of {mixture[0]} experts: {mixture[2]} x {mixture[2]}, threads: {threads}")
    measure(*experts(executors, *mixture), rounds)
    print(f"== checks on the list small, threads: {threads}")
    measure(*checks(executors), rounds, LARGEST_CHECK)


if __name__ == "__main__":
    cyclopts.run(main)
