"""Statistics of paired runs: how much sooner, with which interval, and how likely that is luck.

Contender and baseline run on the same seeds, so all figures rest on one difference per seed: of the logarithm of the
steps to target (a ratio of steps) or of the final value. A miss is an infinite number of steps and takes part: the
difference is then infinite, means give way to medians and sizes to signs. A difference of NaN marks a seed that says
nothing, because both sides missed; it is left out, which for the sign-flip test is the same as counting it as 0.
"""

import math
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

Array = NDArray[np.float64]

ENUMERATED = 16
"""Up to this many differences the sign-flip test enumerates all sign patterns (2^16), beyond it draws as many."""

POWER = 0.8
"""The chance of being found that `smallest_effect` asks for."""

_RESAMPLES = 9_999
_SEED = 20_260_801  # fixed, so that the same runs always give the same report


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
    new_steps, base_steps = _steps(new), _steps(base)
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
    x = _known(differences)
    if not x.size:
        return math.nan
    return float(x.mean() if np.isfinite(x).all() else _median(x))


def sign_flip(differences: ArrayLike) -> float:
    """Return the exact two-sided p-value of the hypothesis that each difference is as likely as its negative.

    The statistic is the absolute sum, of the differences or, when any is infinite, of their signs. All sign patterns
    are enumerated for up to 16 differences; beyond that 65,536 random patterns are drawn from a fixed generator and the
    observed one is counted among them, which keeps the test valid. Sums that agree to nine digits are ties, so that
    rounding errors cannot change p.

    Returns:
        p in (0, 1]; 1.0 for fewer than two differences.
    """
    x = _known(differences)
    if x.size < 2:
        return 1.0
    if not np.isfinite(x).all():
        x = np.sign(x)
    scale = np.abs(x).max()
    if scale == 0:
        return 1.0
    x = x / scale  # so that huge values cannot overflow
    reached = abs(x.sum()) - 1e-9 * np.abs(x).sum()
    if x.size <= ENUMERATED:
        sums = x[:1]  # flipping all signs keeps the absolute sum, so the first sign may stay
        for value in x[1:]:
            sums = np.concatenate([sums + value, sums - value])
        return float(np.mean(np.abs(sums) >= reached))
    signs = np.random.default_rng(_SEED).choice([-1.0, 1.0], size=(2**ENUMERATED, x.size))
    return float((1 + np.count_nonzero(np.abs(signs @ x) >= reached)) / (1 + 2**ENUMERATED))


def interval(differences: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Return the bootstrap interval of `center`.

    For the mean: bias-corrected and accelerated, or by percentiles where that is undefined. With few seeds the plain
    bootstrap is too narrow (6 normal differences: 85 % where 95 % is asked), because resampling n values understates
    their spread; so the level is raised to the one at which a normal interval is as wide as Student's (then 92 %, and
    94 % for 8 seeds). For the median with infinite differences: by percentiles of order statistics (93 %), which need
    no such correction.

    Args:
        differences: one per seed, NaN for a seed that says nothing.
        level: the share of intervals that should hold the true value.

    Returns:
        (low, high), infinite where a miss reaches into the interval; (v, v) when all differences are v, and
        (-inf, inf) for fewer than two, which bound nothing.
    """
    x = _known(differences)
    if x.size < 2:
        return -math.inf, math.inf
    if (x == x[0]).all():
        return float(x[0]), float(x[0])
    if not np.isfinite(x).all():
        generator = np.random.default_rng(_SEED)
        medians = np.sort(_median(x[generator.integers(0, x.size, (_RESAMPLES, x.size))]))
        outside = math.floor((1 - level) / 2 * _RESAMPLES)
        return float(medians[outside]), float(medians[-1 - outside])
    if np.ptp(x) <= 1e-12 * np.abs(x).max():  # nothing but rounding errors
        return float(x.min()), float(x.max())
    wider = math.sqrt(x.size / (x.size - 1)) * special.stdtrit(x.size - 1, 0.5 + level / 2)
    level = min(1 - 2 * float(special.ndtr(-wider)), 1 - 2 / _RESAMPLES)
    low, high = _bootstrap(x, level, "BCa")
    if not (math.isfinite(low) and math.isfinite(high)):
        low, high = _bootstrap(x, level, "percentile")
    return low, high


def ratio_summary(
    new_steps: Sequence[float | None], base_steps: Sequence[float | None], level: float = 0.95
) -> RatioSummary:
    """Return how many steps the contender needs relative to the baseline: below 1 is faster.

    The ratio is the geometric mean over seeds, or the median when any seed was missed by one side. When nothing is
    known (both miss everywhere), the ratio is None and its interval everything: from 0 to None.
    """
    differences = paired_log_ratios(new_steps, base_steps)
    low, high = interval(differences, level)
    steps = [None if math.isinf(value) else float(value) for value in _steps(new_steps)]
    return {
        "ratio": _ratio(center(differences)),
        "low": _ratio(low),
        "high": _ratio(high),
        "p": sign_flip(differences),
        "hits": sum(value is not None for value in steps),
        "of": len(steps),
        "steps": steps,
    }


def difference_summary(
    new: Sequence[float | None], base: Sequence[float | None], higher_is_better: bool = False, level: float = 0.95
) -> DifferenceSummary:
    """Return the final values of the contender and their mean difference to the baseline's, in the metric's own units.

    Args:
        new: final value per seed of the contender; None, NaN or infinite for a diverged run, which counts as worst.
        base: the same of the baseline.
        higher_is_better: which direction is worse.
        level: of the interval.

    Returns:
        The summary; mean and sd are None when a run diverged (they would be infinite), and sd also for one run.
    """
    differences = paired_differences(new, base, higher_is_better)
    low, high = interval(differences, level)
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
        "p": sign_flip(differences),
    }


def holm(ps: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for being the luckiest of several (Holm, 1979), in the order given."""
    adjusted = [1.0] * len(ps)
    so_far = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        so_far = max(so_far, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = so_far
    return adjusted


def spread(differences: ArrayLike) -> float | None:
    """Return the standard deviation of the differences, None when it is infinite or there are fewer than two.

    With infinite differences the middle half stands in: its width over 1.35 estimates the standard deviation of the
    rest, times 1.25 because a median is that much less precise than a mean. It is None once a miss lies in that half.
    """
    x = _known(differences)
    if x.size < 2:
        return None
    if np.isfinite(x).all():
        return float(x.std(ddof=1))
    low, high = np.quantile(x, [0.25, 0.75], method="inverted_cdf")
    # 2 * 0.6745 is the width of the middle half of a normal distribution, pi / 2 the variance of its median
    return float((high - low) / 1.349 * math.sqrt(math.pi / 2)) if math.isfinite(low) and math.isfinite(high) else None


def smallest_effect(log_ratio_sd: float | None, n: int, alpha: float = 0.05) -> float | None:
    """Return the ratio of steps below 1 that a race finds with 80 % power; lower means a blunter race.

    Computed for normal differences and the paired t-test at the level that sign flips of n differences attain below
    alpha, which the sign-flip test follows closely (simulated power 70 to 82 %); where only n equal signs reach alpha,
    for the chance of those.

    Args:
        log_ratio_sd: what `spread` returned.
        n: number of seeds.
        alpha: two-sided level that a single contender must meet, after corrections for contenders and looks.

    Returns:
        The ratio; None when the spread is unknown or n seeds cannot reach alpha at all.
    """
    if log_ratio_sd is None or not math.isfinite(log_ratio_sd) or n < 2 or smallest_p(n) > alpha:
        return None
    return math.exp(-_detectable(n, alpha) * log_ratio_sd)


def smallest_p(n: int) -> float:
    """Return the smallest p-value that `sign_flip` can give with n seeds: 2^(1 - n) as long as it enumerates."""
    if n < 2:
        return 1.0
    return 2.0 ** (1 - n) if n <= ENUMERATED else 1 / (1 + 2**ENUMERATED)


def can_reach(n: int, contenders: int, alpha: float = 0.05, looks: int = 1) -> bool:
    """Say whether n seeds can give any of the contenders a verdict at all, after Holm and the division by looks."""
    return smallest_p(n) * max(contenders, 1) <= alpha / looks


def seeds_needed(contenders: int, alpha: float = 0.05, looks: int = 1) -> int:
    """Return the fewest seeds with which `can_reach` holds, for example 6 for one contender and one look."""
    return max(2, 1 + math.ceil(math.log2(max(contenders, 1) * looks / alpha)))


@lru_cache
def _detectable(n: int, alpha: float) -> float:
    """Return the mean, in standard deviations, that the sign-flip test of n normal differences finds in 80 %."""
    patterns = math.floor(alpha / smallest_p(n))  # how many sign patterns may be at least as extreme; at least 1
    freedom = n - 1
    critical = float(special.stdtrit(freedom, 1 - patterns * smallest_p(n) / 2))

    def missing(shift: float) -> float:
        # the other tail is negligible at this power
        return POWER - (1 - float(special.nctdtr(freedom, shift, critical)))

    student = float(optimize.brentq(missing, 0.0, 2 * critical + 3)) / math.sqrt(n)
    # one pattern only: all n differences must have the same sign, which asks for more than the t-test does
    return max(student, float(special.ndtri(POWER ** (1 / n)))) if patterns == 1 else student


def _bootstrap(x: Array, level: float, method: Literal["BCa", "percentile"]) -> tuple[float, float]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # scipy warns of degenerate data, which the caller sees as NaN
        result = stats.bootstrap(
            (x,),
            np.mean,
            confidence_level=level,
            n_resamples=_RESAMPLES,
            method=method,
            random_state=np.random.default_rng(_SEED),
        ).confidence_interval
    return float(result.low), float(result.high)


def _steps(steps: Sequence[float | None]) -> Array:
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


def _known(differences: ArrayLike) -> Array:
    x = np.asarray(differences, dtype=np.float64)
    return x[~np.isnan(x)]


def _median(x: Array) -> Array:
    """Return the median along the last axis; halfway between -inf and +inf, where wins and losses balance, is 0."""
    with np.errstate(invalid="ignore"):
        ordered = np.sort(x, axis=-1)
        middle = (ordered[..., (x.shape[-1] - 1) // 2] + ordered[..., x.shape[-1] // 2]) / 2
    return np.where(np.isnan(middle), 0.0, middle)


def _ratio(log_ratio: float) -> float | None:
    # NaN and everything whose exponential exceeds the largest float end up as None
    return math.exp(log_ratio) if log_ratio < 709 else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
