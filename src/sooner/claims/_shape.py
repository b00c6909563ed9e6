"""What claims declare alike: the same recipes at two horizons and two sizes, trends over these, baselines in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from sooner.claims._claim import Criterion, Measured, Race
from sooner.claims._findings import Findings, times

HORIZONS = {"short": 150, "long": 300}
"""Optimizer steps of a run."""
SIZES = {"small": "charlm", "large": "charlm_large"}
SCALES = tuple(f"{size}, {horizon}" for size in SIZES for horizon in HORIZONS)
"""The names of the races of `at_scales`."""
IN_STEPS = {f"{steps} steps": horizon for horizon, steps in HORIZONS.items()}
"""The horizons by their lengths."""

ADAMW = "AdamW, tuned with as many trials."
ADAMW_AND_FLOOR = "AdamW, and SGD with momentum as the floor, tuned with as many trials."
DENSE_ADAMW = "AdamW with averaged float32 gradients, its learning rate tuned with as many trials as anybody's."
DENSE_MOMENTUM = "SGD with momentum 0.9 and averaged float32 gradients, tuned with as many trials as anybody's."
DENSE_AVERAGES = "Dense averaging; all learning rates tuned alike on a seed of its own."
FEDAVG_OF_ALL = "FedAvg with all clients, five local steps; learning rates tuned alike on a seed of its own."


def at_horizons(recipes: str, task: str = "charlm", before: str = "") -> dict[str, Race]:
    """Return the race of recipes at both horizons; `before` goes before their names."""
    return {f"{before}{horizon}": Race(recipes, task, steps=steps) for horizon, steps in HORIZONS.items()}


def at_scales(recipes: str) -> dict[str, Race]:
    """Return the race of recipes at both sizes and both horizons, by the names `SCALES`."""
    return {
        name: race for size, task in SIZES.items() for name, race in at_horizons(recipes, task, f"{size}, ").items()
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


def not_just_sgd(contender: str) -> Criterion:
    """Return the control that a method with little state does better than the floor, in the race "against SGD"."""
    return Criterion(
        "not just SGD: lower loss than the tuned SGD with momentum",
        lambda f: f.final_ratio("against SGD", contender),
        at_most=1.0,
        gain=True,
        control=True,
    )
