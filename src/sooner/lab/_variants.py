"""Measurements on changed workloads: what a race can't vary, such as batch, data or network, varies here.

Every arm of a comparison takes the rate that suits it best on a seed of its own, out of as many as anybody has.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sooner import workloads
from sooner.claims._claim import Measurement
from sooner.lab._changes import CHANGES
from sooner.loop import train
from sooner.race.targets import confirmed_crossing
from sooner.task import Task

TUNING_SEED = 10_000
EVALUATIONS = 50
"""Of a run whose first crossing is noted."""
SEEDS = tuple(range(30_000, 30_008))
SGD_RATES, ADAMW_RATES = (0.03, 0.1, 0.3, 1.0), (0.001, 0.003, 0.01, 0.03)


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Args:
        workload: a bundled one.
        change: of the workload, one of `_changes.CHANGES`.
        recipe: with ``{rate}`` where its learning rate stands.
        rates: to choose from.
        steps: of a run.
        target: value of the metric whose first crossing is noted; None for none, and the end decides.
    """

    workload: str
    change: str
    recipe: str
    rates: tuple[float, ...]
    steps: int
    target: float | None = None

    def task(self) -> Task:
        """Return what is trained."""
        task = CHANGES[self.change](workloads.find(self.workload))
        return task if self.target is None else replace(task, evaluations=min(self.steps, EVALUATIONS))


def case_of(arm: Arm, seed: int) -> dict[str, Any]:
    """Return the case of one run in plain values."""
    return {**vars(arm), "rates": list(arm.rates), "seed": seed}


def arms(made: Iterable[Arm], seeds: Iterable[int] = SEEDS) -> Measurement:
    """Return the measurement of these arms on the same seeds; the miniature takes few steps and one rate."""
    made = tuple(made)
    small = [replace(arm, steps=3, rates=arm.rates[:1]) for arm in made]
    return Measurement(
        measure, [case_of(arm, seed) for seed in seeds for arm in made], [case_of(arm, 1) for arm in small]
    )


def measure(seed: int, rates: list[float], **arm: Any) -> Mapping[str, Any]:
    """Train once; return the last value, the step that reached the target (None for a miss), and the rate."""
    one = Arm(rates=tuple(rates), **arm)
    rate = best_rate(one)
    last, reached = run_of(one, rate, seed)
    return {"last": last if math.isfinite(last) else None, "reached": reached, "rate": rate}


@functools.cache
def best_rate(arm: Arm) -> float:
    """Return the rate that reaches the target first on the tuning seed, or ends lowest where there is none."""
    if len(arm.rates) == 1:
        return arm.rates[0]

    def score(rate: float) -> tuple[float, float]:
        last, reached = run_of(arm, rate, TUNING_SEED)
        return (reached if arm.target is not None and reached is not None else math.inf, last)

    return min(arm.rates, key=score)


def run_of(arm: Arm, rate: float, seed: int) -> tuple[float, float | None]:
    """Return the last value of a run, infinite where it diverged, and the step that reached the target."""
    task = arm.task()
    run = train(task, arm.recipe.format(rate=rate), seed, arm.steps)
    broken = run.diverged_at is not None or not math.isfinite(run.values[-1])
    last = math.inf if broken else run.values[-1]
    return last, None if arm.target is None else confirmed_crossing(run.steps, run.values, arm.target)
