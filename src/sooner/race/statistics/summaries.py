"""What a report says of a contender against the baseline, as plain numbers."""

import math
from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from sooner.race.statistics.betting import betting_interval, betting_p
from sooner.race.statistics.intervals import interval
from sooner.race.statistics.pairs import Array, center, known_steps, paired_differences, paired_log_ratios
from sooner.race.statistics.sign_flips import sign_flip


class RatioSummary(TypedDict):
    """How the steps to one target compare; `ratio`, `low` and `high` are None where they are infinite."""

    ratio: float | None
    low: float | None
    high: float | None
    p: float
    hits: int
    of: int
    steps: list[float | None]


class DifferenceSummary(TypedDict):
    """How a final value compares at equal budget; figures that are infinite or undefined are None."""

    mean: float | None
    sd: float | None
    values: list[float | None]
    difference: float | None
    low: float | None
    high: float | None
    p: float


def ratio_summary(
    new_steps: Sequence[float | None],
    base_steps: Sequence[float | None],
    level: float = 0.95,
    every_seed: bool = False,
) -> RatioSummary:
    """Return how many steps the contender needs relative to the baseline: below 1 is faster.

    The ratio is the geometric mean over seeds, or the median when any seed was missed by one side. When nothing is
    known (both miss everywhere), the ratio is None and its interval everything: from 0 to None.

    Args:
        new_steps: steps to the target of the contender, one per seed; None for a miss.
        base_steps: the same of the baseline.
        level: of the interval.
        every_seed: whether the race looks after every seed; p and interval then hold at all these looks at once.
    """
    differences = paired_log_ratios(new_steps, base_steps)
    low, high, p = _tested(differences, level, every_seed)
    steps = [None if math.isinf(value) else float(value) for value in known_steps(new_steps)]
    return {
        "ratio": _ratio(center(differences)),
        "low": _ratio(low),
        "high": _ratio(high),
        "p": p,
        "hits": sum(value is not None for value in steps),
        "of": len(steps),
        "steps": steps,
    }


def difference_summary(
    new: Sequence[float | None],
    base: Sequence[float | None],
    higher_is_better: bool = False,
    level: float = 0.95,
    every_seed: bool = False,
) -> DifferenceSummary:
    """Return the final values of the contender and their mean difference to the baseline's, in the metric's own units.

    Args:
        new: final value per seed of the contender; None, NaN or infinite for a diverged run, which counts as worst.
        base: the same of the baseline.
        higher_is_better: which direction is worse.
        level: of the interval.
        every_seed: whether the race looks after every seed; p and interval then hold at all these looks at once.

    Returns:
        The summary; mean and sd are None when a run diverged (they would be infinite), and sd also for one run.
    """
    differences = paired_differences(new, base, higher_is_better)
    low, high, p = _tested(differences, level, every_seed)
    values = [None if value is None or not math.isfinite(value) else float(value) for value in new]
    finite = [value for value in values if value is not None]
    whole = bool(values) and len(finite) == len(values)
    return {
        "mean": float(np.mean(finite)) if whole else None,
        "sd": float(np.std(finite, ddof=1)) if whole and len(finite) > 1 else None,
        "values": values,
        "difference": _finite(center(differences)),
        "low": _finite(low),
        "high": _finite(high),
        "p": p,
    }


def _tested(differences: Array, level: float, every_seed: bool) -> tuple[float, float, float]:
    """Return the interval of the centre and the p-value: of one look, or of looks after every seed."""
    if every_seed:
        return *betting_interval(differences, level), betting_p(differences)
    return *interval(differences, level), sign_flip(differences)


def _ratio(log_ratio: float) -> float | None:
    # NaN and everything whose exponential exceeds the largest float end up as None
    return math.exp(log_ratio) if log_ratio < 709 else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
