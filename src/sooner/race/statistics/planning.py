"""How many seeds an effect needs, before the race: what is known of the spread, drawn many times and judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from sooner.race.statistics.betting import wealth
from sooner.race.statistics.pairs import SEED, Array

_DRAWS = 1_000
_ENUMERATED = 10
"""Up to so many seeds every draw is judged by all sign patterns, beyond by the t-test, which these come close to."""

MOST = 200
"""Nobody is told to race on more seeds than these."""


@dataclass(frozen=True)
class Spread:
    """What is known of how runs differ by luck, before a race.

    Args:
        sd: standard deviation of one paired log ratio of steps, had no run missed the target.
        freedom: degrees of freedom that it was estimated with: few make its own error part of what is planned for.
        shared: share of the variance of log steps that contender and baseline have in common on a seed, 0 to below 1.
        margin: mean of log(most steps / steps to the target) of the baseline; infinite where nobody can miss.
    """

    sd: float
    freedom: int
    shared: float = 0.0
    margin: float = math.inf


@dataclass(frozen=True)
class Looking:
    """When a race is judged.

    Args:
        looks: numbers of seeds after which it looks, ascending.
        level: two-sided level that a single contender must meet at one look, after all corrections.
        every_seed: whether it looks after every seed up to the last of `looks`, by betting.
    """

    looks: tuple[int, ...]
    level: float
    every_seed: bool = False


def spread_of_log_steps(log_steps: Sequence[float], misses: int, most: float) -> tuple[float, float]:
    """Return mean and standard deviation of log steps to a target of which some are only known to exceed `most`.

    By maximum likelihood for normal log steps (Tobin, 1958), with n - 1 in place of n.

    Args:
        log_steps: of the runs that arrived, two or more.
        misses: how many did not.
        most: logarithm of the steps up to which a run could arrive.
    """
    x = np.asarray(log_steps, dtype=np.float64)
    mean, sd, n = float(x.mean()), float(x.std()), x.size + misses
    if misses and sd > 0:

        def unlikely(at: NDArray[np.float64]) -> float:
            z, beyond = (x - at[0]) / math.exp(at[1]), (most - at[0]) / math.exp(at[1])
            return float((z**2).sum() / 2 + x.size * at[1] - misses * special.log_ndtr(-beyond))

        found = optimize.minimize(unlikely, np.array([mean, math.log(sd)]), method="Nelder-Mead")
        mean, sd = float(found.x[0]), math.exp(float(found.x[1]))
    return mean, sd * math.sqrt(n / (n - 1))


def power(spread: Spread, ratio: float, looking: Looking) -> tuple[float, float]:
    """Return the chance that a race finds a contender which needs `ratio` of the steps, and the mean seeds it takes.

    Drawn with normal log steps; the spread itself is drawn anew for every race, as far as it is unknown. Runs beyond
    the margin miss, and then the race judges by signs, as the real one does.

    Args:
        spread: how runs differ.
        ratio: steps of the contender over steps of the baseline.
        looking: when the race is judged, and at which level.

    Returns:
        (chance, seeds), the latter below the last look where the race ends sooner.
    """
    last = looking.looks[-1]
    differences = _drawn(spread, ratio, last)
    down = np.sign(np.where(np.isfinite(differences), differences, np.sign(differences))).astype(np.float64)
    if looking.every_seed:
        owned = wealth(differences)
        owned[:, : looking.looks[0] - 1] = 0.0
        rich = owned >= 1 / looking.level
        first = np.where(rich.any(axis=1), rich.argmax(axis=1), last - 1)
        right = np.take_along_axis(np.nancumsum(down, axis=1), first[:, None], axis=1)[:, 0] < 0
        return float((rich.any(axis=1) & right).mean()), float((first + 1).mean())
    found, used = np.zeros(len(differences), dtype=bool), np.full(len(differences), last)
    settled = found.copy()
    for look in looking.looks:
        some = differences[:, :look]
        significant = ~settled & (_chances(some) <= looking.level)
        found |= significant & (_middle(some) < 0)
        settled |= significant
        used = np.where(significant, look, used)
    return float(found.mean()), float(used.mean())


def seeds_for(spread: Spread, ratio: float, wanted: float, level: float, every_seed: bool = False) -> int | None:
    """Return the fewest seeds with which a race finds this ratio with at least the wanted chance.

    Args:
        spread: how runs differ.
        ratio: steps of the contender over steps of the baseline.
        wanted: the chance.
        level: two-sided level that a single contender must meet at its last look, after all corrections.
        every_seed: whether the race looks after every seed, up to the number returned.

    Returns:
        The seeds, from 6; None where `MOST` are too few.
    """

    def enough(n: int) -> bool:
        looks = tuple(range(6, n + 1)) if every_seed else (n,)
        return power(spread, ratio, Looking(looks, level, every_seed))[0] >= wanted

    high = 8
    while not enough(high):
        if high == MOST:
            return None
        high = min(2 * high, MOST)
    low = 5 if high == 8 else high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def visible(spread: Spread, wanted: float, looking: Looking) -> float | None:
    """Return the largest ratio below 1 that a race finds with at least the wanted chance, None where there is none."""
    low, high = math.log(0.01), 0.0
    if power(spread, math.exp(low), looking)[0] < wanted:
        return None
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (middle, high) if power(spread, math.exp(middle), looking)[0] >= wanted else (low, middle)
    return math.exp(low)


def _drawn(spread: Spread, ratio: float, seeds: int) -> Array:
    """Return log ratios of `_DRAWS` races, [draws, seeds]: infinite where one side misses, NaN where both do."""
    common, new, base, error = (noise[:, :seeds] for noise in _noise(spread.freedom))
    own = spread.sd / math.sqrt(2) * error
    both = own * math.sqrt(spread.shared / (1 - spread.shared))
    if not math.isfinite(spread.margin):
        found: Array = math.log(ratio) + own * (new - base)
        return found
    runs = (math.log(ratio) + both * common + own * new, both * common + own * base)
    late = [np.where(run > spread.margin, np.inf, run) for run in runs]
    with np.errstate(invalid="ignore"):
        paired: Array = late[0] - late[1]
    return paired


@lru_cache(maxsize=4)
def _noise(freedom: int) -> tuple[Array, Array, Array, Array]:
    """Return the same numbers for every ratio, so that the chance rises steadily with it."""
    generator = np.random.default_rng(SEED)
    error = np.sqrt(freedom / generator.chisquare(freedom, (_DRAWS, 1)))
    common, new, base = generator.standard_normal((3, _DRAWS, MOST))
    return common, new, base, error


def _middle(differences: Array) -> Array:
    """Return the sign of what decides: of the sum, or of the sum of signs where a run missed."""
    with np.errstate(invalid="ignore"):
        sums = np.where(np.isfinite(differences).all(axis=1), differences.sum(axis=1), 0.0)
    return np.where(sums != 0, sums, np.nansum(np.sign(differences), axis=1))


def _chances(differences: Array) -> Array:
    """Return the p-values of sign flips, [races]."""
    n = differences.shape[1]
    whole = np.isfinite(differences).all(axis=1)
    found = np.ones(len(differences))
    if whole.any():
        x = differences[whole]
        if n <= _ENUMERATED:
            sums = np.abs(x @ _patterns(n))
            found[whole] = (sums >= np.abs(x.sum(axis=1, keepdims=True)) * (1 - 1e-9)).mean(axis=1)
        else:
            found[whole] = stats.ttest_1samp(x, 0.0, axis=1).pvalue
    if not whole.all():
        signs = np.sign(differences[~whole])
        wins, of = (signs < 0).sum(axis=1), (np.abs(signs) > 0).sum(axis=1)
        found[~whole] = np.minimum(1.0, 2 * stats.binom.cdf(np.minimum(wins, of - wins), of, 0.5))
    return found


@lru_cache
def _patterns(n: int) -> Array:
    """Return all sign patterns of n differences whose first sign is +, [n, 2^(n - 1)]."""
    rest = (np.arange(2 ** (n - 1)) >> np.arange(n - 1)[:, None]) & 1
    return np.concatenate([np.ones((1, 2 ** (n - 1))), 1.0 - 2.0 * rest])
