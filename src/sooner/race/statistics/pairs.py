"""One difference per seed between a contender and the baseline, and their centre."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

SEED = 20_260_801  # fixed, so that the same runs always give the same report


def paired_log_ratios(new: Sequence[float | None], base: Sequence[float | None]) -> Array:
    """Return log(new / base) for each seed, float64 [seeds].

    Args:
        new: steps to target of the contender, one per seed; None, NaN and infinity all mean a miss.
        base: steps to target of the baseline on the same seeds.

    Returns:
        +inf where only the contender misses, -inf where only the baseline does, NaN where both do: then nothing is
        known. Targets reached before the first step (0 steps) compare as equal to each other and as infinitely better
        than any other.
    """
    new_steps, base_steps = known_steps(new), known_steps(base)
    with np.errstate(divide="ignore"):
        ratios = _paired(np.log(new_steps), np.log(base_steps))
    ratios[(new_steps == 0) & (base_steps == 0)] = 0.0
    return ratios


def paired_differences(
    new: Sequence[float | None], base: Sequence[float | None], higher_is_better: bool = False
) -> Array:
    """Return new - base for each seed, float64 [seeds]; None, NaN and infinity mean a diverged run, the worst value."""
    worst = -math.inf if higher_is_better else math.inf
    return _paired(_values(new, worst), _values(base, worst))


def center(differences: ArrayLike) -> float:
    """Return the mean difference, or the median when any is infinite; NaN when nothing is known."""
    x = known(differences)
    if not x.size:
        return math.nan
    return float(x.mean() if np.isfinite(x).all() else median(x))


def spread(differences: ArrayLike) -> float | None:
    """Return the standard deviation of the differences, None when it is infinite or there are fewer than two.

    With infinite differences the middle half stands in: its width over 1.35 estimates the standard deviation of the
    rest, times 1.25 because a median is that much less precise than a mean. It is None once a miss lies in that half.
    """
    x = known(differences)
    if x.size < 2:
        return None
    if np.isfinite(x).all():
        return float(x.std(ddof=1))
    low, high = np.quantile(x, [0.25, 0.75], method="inverted_cdf")
    # 2 * 0.6745 is the width of the middle half of a normal distribution, pi / 2 the variance of its median
    return float((high - low) / 1.349 * math.sqrt(math.pi / 2)) if math.isfinite(low) and math.isfinite(high) else None


def known_steps(steps: Sequence[float | None]) -> Array:
    """Return steps to target as numbers, float64 [seeds]; misses are infinite."""
    values = _values(steps, math.inf)
    if (values < 0).any():
        raise ValueError(f"steps to target cannot be negative, got {steps}")
    return values


def _values(values: Sequence[float | None], worst: float) -> Array:
    return np.array([worst if v is None or not math.isfinite(v) else v for v in values], dtype=np.float64)


def _paired(new: Array, base: Array) -> Array:
    """Subtract seed by seed; two equal infinities leave NaN."""
    if new.shape != base.shape:
        raise ValueError(f"paired runs need the same seeds, got {new.size} and {base.size}")
    with np.errstate(invalid="ignore"):
        return new - base


def known(differences: ArrayLike) -> Array:
    """Return the differences of the seeds that say something."""
    x = np.asarray(differences, dtype=np.float64)
    return x[~np.isnan(x)]


def median(x: Array) -> Array:
    """Return the median along the last axis; halfway between -inf and +inf, where wins and losses balance, is 0."""
    with np.errstate(invalid="ignore"):
        ordered = np.sort(x, axis=-1)
        middle = (ordered[..., (x.shape[-1] - 1) // 2] + ordered[..., x.shape[-1] // 2]) / 2
    return np.where(np.isnan(middle), 0.0, middle)
