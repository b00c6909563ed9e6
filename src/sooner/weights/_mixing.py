"""Searches for the coefficients of a mixture: downhill by L-BFGS, or by evolution. Coefficients add up to 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

LARGEST = 10.0
"""Coefficients beyond that are not taken: a sum of such large weights is mostly rounding and luck."""
PARENTS = 20
MUTATED = 0.2
"""Share of coordinates that a child changes."""
STEPS = (0.3, 0.1, 0.03)
"""Sizes of a change, in standard deviations of the best one's coefficients."""
CHECKED = 50
"""Evaluations of an evolution between two checks."""
PATIENCE = 3
"""Checks in a row without a gain after which a search ends."""

Check = Callable[[Tensor], float]


class Trial(Protocol):
    """What is asked of coefficients ``[k]``."""

    def value(self, coefficients: Tensor) -> float:
        """Return the metric; infinite where it is no number."""

    def slope(self, coefficients: Tensor) -> tuple[float, Tensor]:
        """Return the metric and its derivatives by the coefficients."""


@dataclass
class Best:
    """The best coefficients so far, by the check where there is one."""

    coefficients: Tensor
    value: float


class _Ended(Exception):  # noqa: N818  # nothing went wrong
    """Ends a search at once."""


def followed_downhill(trial: Trial, starts: list[Tensor], evaluations: int, check: Check | None, seed: int) -> Best:
    """Return what L-BFGS finds from the best of the starts; every evaluation counts, the starts too.

    Without a check the lowest value met is taken, with one the iterate that is lowest for it.
    """
    first, left = _best_start(trial, starts, evaluations)
    best = Best(first.coefficients, first.value if check is None else check(first.coefficients))
    free = first.coefficients[:-1].clone().requires_grad_(True)  # the last one is what is missing to 1
    optimizer = torch.optim.LBFGS(
        [free],
        max_iter=evaluations if check is None else 1,
        max_eval=evaluations,
        history_size=20,
        tolerance_grad=1e-10,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def evaluate() -> float:
        nonlocal left, best
        if left < 1:
            raise _Ended
        left -= 1
        coefficients = _whole(free.detach())
        value, slope = trial.slope(coefficients)
        free.grad = slope[:-1] - slope[-1]
        if check is None and value < best.value and float(coefficients.abs().max()) <= LARGEST:
            best = Best(coefficients, value)
        return value

    worse = 0
    try:
        while worse < PATIENCE:
            before = free.detach().clone()
            optimizer.step(evaluate)  # type: ignore[no-untyped-call]
            coefficients = _whole(free.detach())
            if check is None or torch.equal(before, free.detach()) or float(coefficients.abs().max()) > LARGEST:
                break
            if check is not None:
                now = check(coefficients)
                worse = 0 if now < best.value else worse + 1
                best = Best(coefficients, now) if now < best.value else best
    except _Ended:
        pass
    return best


def evolved(trial: Trial, starts: list[Tensor], evaluations: int, check: Check | None, seed: int) -> Best:
    """Return the best of a population: uniform crossover of two parents among the best, then Gaussian mutation."""
    generator = torch.Generator().manual_seed(seed)
    people = sorted((Best(one, trial.value(one)) for one in starts[: max(1, evaluations)]), key=lambda one: one.value)
    best = people[0] if check is None else Best(people[0].coefficients, check(people[0].coefficients))
    worse, k = 0, len(starts[0])
    for number in range(len(people), evaluations):
        a, b = (people[int(i)].coefficients for i in torch.randint(len(people), (2,), generator=generator))
        child = torch.where(torch.rand(k, generator=generator) < 0.5, a, b)
        size = STEPS[int(torch.randint(len(STEPS), (1,), generator=generator))]
        size *= max(float(people[0].coefficients.std()), 1 / k)
        noise = torch.randn(k, generator=generator, dtype=torch.float64)
        child = child + size * noise * (torch.rand(k, generator=generator) < MUTATED)
        child = _whole(child[:-1])
        if float(child.abs().max()) > LARGEST:
            continue
        people = sorted([*people, Best(child, trial.value(child))], key=lambda one: one.value)[:PARENTS]
        if check is None:
            best = people[0]
        elif number % CHECKED == 0:
            now = check(people[0].coefficients)
            worse = 0 if now < best.value else worse + 1
            best = Best(people[0].coefficients, now) if now < best.value else best
            if worse == PATIENCE:
                break
    return best


def _best_start(trial: Trial, starts: list[Tensor], evaluations: int) -> tuple[Best, int]:
    tried = [Best(one, trial.value(one)) for one in starts[: max(1, evaluations // 2)]]
    return min(tried, key=lambda one: one.value), evaluations - len(tried)


def _whole(free: Tensor) -> Tensor:
    """Return the coefficients ``[k]`` that add up to 1, of all but the last."""
    return torch.cat([free, 1 - free.sum(0, keepdim=True)])
