"""What claims declare alike: recipes at two horizons and three sizes, trends over these, baselines in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from sooner.claims._claim import Criterion, Measured, Race
from sooner.claims._findings import Findings, times
from sooner.claims._regimes import oracle
from sooner.race import statistics

HORIZONS = {"short": 250, "long": 1000}
"""Optimizer steps of a run."""
SIZES = {"1x": 1, "2x": 2, "4x": 4}
"""Of the model, in times the parameters of the task's own."""
SCALES = tuple(f"{size}, {horizon}" for size in SIZES for horizon in HORIZONS)
"""The names of the races of `at_scales`."""
IN_STEPS = {f"{steps:,} steps": horizon for horizon, steps in HORIZONS.items()}
"""The horizons by their lengths."""
TO_THE_END = 2000
"""Steps of the runs on text in which schedules are compared."""
IMAGES_TO_THE_END = 1000
"""And of those on images."""
CONSTANT = f"adamw + constant(warmup={TO_THE_END // 20})"
"""It warms up over 5 % of the steps as the schedules that decay do."""
LEAST = 4
"""Seeds that a change with size needs."""

ADAMW = "AdamW, tuned with as many trials."
ADAMW_AND_FLOOR = "AdamW, and SGD with momentum as the floor, tuned with as many trials."
DENSE_ADAMW = "AdamW with averaged float32 gradients, its learning rate tuned with as many trials as anybody's."
DENSE_MOMENTUM = "SGD with momentum 0.9 and averaged float32 gradients, tuned with as many trials as anybody's."
DENSE_AVERAGES = "Dense averaging; all learning rates tuned alike on a seed of its own."
FEDAVG_OF_ALL = "FedAvg with all clients, five local steps; learning rates tuned alike on a seed of its own."


def at_horizons(recipes: str, task: str = "charlm", before: str = "") -> dict[str, Race]:
    """Return the race of recipes at both horizons; `before` goes before their names."""
    return {f"{before}{horizon}": Race(recipes, task, steps=steps) for horizon, steps in HORIZONS.items()}


def at_scales(recipes: str, task: str = "charlm") -> dict[str, Race]:
    """Return the race of recipes at the three sizes and both horizons, by the names `SCALES`.

    The long ones also have the oracle of the baseline, which is the positive control at its size.
    """
    shown = f"{recipes}; {oracle(recipes.split(';')[0].strip())}"
    return {
        f"{label}, {horizon}": Race(shown if horizon == "long" else recipes, task, steps=steps, size=size)
        for label, size in SIZES.items()
        for horizon, steps in HORIZONS.items()
    }


def steps_over(
    races: Iterable[str] | Mapping[str, str], contender: str, *, before: str = "", passes: float = 1.0
) -> dict[str, Callable[[Findings], Measured]]:
    """Return a trend: the ratio of steps to the middle target in every one of these races.

    Args:
        races: their names, or the name of each by the label that it gets.
        contender: the recipe in them.
        before: what goes before the labels.
        passes: gradients that a step of the method takes.
    """
    labels = races if isinstance(races, Mapping) else {name: name for name in races}
    return {
        f"{before}{label}": lambda f, name=name: times(f.steps_ratio(name, contender), passes)  # type: ignore[misc]
        for label, name in labels.items()
    }


def changes(contender: str) -> dict[str, Callable[[Findings], Measured]]:
    """Return how the ratio of steps changes with the size of the model and with the length, over `at_scales`."""
    sizes: dict[float, str] = {size: f"{label}, long" for label, size in SIZES.items()}
    lengths: dict[float, str] = {steps: f"1x, {horizon}" for horizon, steps in HORIZONS.items()}
    return {
        "per doubling of the parameters (1,000 steps, 1x to 4x)": lambda f: per_doubling(f, sizes, contender),
        "per doubling of the steps (250 to 1,000)": lambda f: per_doubling(f, lengths, contender),
    }


def per_doubling(f: Findings, races: Mapping[float, str], contender: str) -> Measured:
    """Return by which factor the ratio of steps to the middle target changes where what is named by numbers doubles.

    The slope of a line through the logarithms, seed by seed; seeds that miss a target somewhere are left out.
    """
    undecided = [found.undecided for name in races.values() if (found := f.steps_ratio(name, contender)).undecided]
    if undecided:
        return Measured(math.nan, unit="x", undecided=undecided[0])
    columns = []
    for name in races.values():
        ours, theirs = (row["targets"]["middle"]["steps"] for row in (f.row(name, contender), f.baseline(name)))
        columns.append(statistics.paired_log_ratios(ours, theirs))
    points = np.stack(columns)  # [races, seeds]
    points = points[:, np.isfinite(points).all(axis=0)]
    if points.shape[1] < LEAST:
        return Measured(math.nan, unit="x", undecided="too few seeds reach the target everywhere")
    doublings = np.log2(np.array(list(races), dtype=np.float64))
    doublings -= doublings.mean()
    slopes = doublings @ points / (doublings @ doublings)
    low, high = statistics.interval(slopes)
    center = statistics.center(slopes)
    return Measured(math.exp(center), math.exp(low), math.exp(high), statistics.sign_flip(slopes), unit="x")


def decay_shows(race: str, constant: str, decayed: str | None = None) -> Criterion:
    """Return the positive control that a rate which decays ends lower than a constant one (`decayed`: the baseline)."""
    return Criterion(
        "decay shows here: at a constant rate it ends at least 1.01x as high",
        lambda f: f.final_ratio(race, constant, against=decayed),
        at_least=1.01,
        gain=True,
        positive=True,
    )


def not_just_sgd(contender: str) -> Criterion:
    """Return the control that a method with little state does better than the floor, in the race "against SGD"."""
    return Criterion(
        "not just SGD: lower loss than the tuned SGD with momentum",
        lambda f: f.final_ratio("against SGD", contender),
        at_most=1.0,
        gain=True,
        control=True,
    )
