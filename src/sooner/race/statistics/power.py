"""How small an effect a race could have found, and how many seeds can decide at all."""

import math
from functools import lru_cache

import numpy as np
from scipy import optimize, special

from sooner.race.statistics.betting import smallest_betting_p, wealth
from sooner.race.statistics.pairs import SEED
from sooner.race.statistics.sign_flips import smallest_p

POWER = 0.8
"""The chance of being found that `smallest_effect` asks for."""

_DRAWS = 1_000


def can_reach(n: int, contenders: int, alpha: float = 0.05, every_seed: bool = False) -> bool:
    """Say whether n seeds can give any of the contenders a verdict at all, after Holm.

    Args:
        n: number of seeds.
        contenders: how many are compared with the baseline.
        alpha: level of one look.
        every_seed: whether the race looks after every seed.
    """
    return (smallest_betting_p(n) if every_seed else smallest_p(n)) * max(contenders, 1) <= alpha


def seeds_needed(contenders: int, alpha: float = 0.05, every_seed: bool = False) -> int:
    """Return the fewest seeds with which `can_reach` holds, for example 6 for one contender and one look."""
    if not every_seed:
        return max(2, 1 + math.ceil(math.log2(max(contenders, 1) / alpha)))
    return next(n for n in range(2, 10_000) if can_reach(n, contenders, alpha, every_seed))


def smallest_effect(log_ratio_sd: float | None, n: int, alpha: float = 0.05, every_seed: bool = False) -> float | None:
    """Return the ratio of steps below 1 that a race finds with 80 % power; lower means a blunter race.

    Args:
        log_ratio_sd: what `spread` returned of log ratios.
        n: number of seeds.
        alpha: two-sided level that a single contender must meet, after corrections for contenders and looks.
        every_seed: whether the race looks after every seed, up to n.

    Returns:
        The ratio; None when the spread is unknown or n seeds cannot reach alpha at all.
    """
    shift = smallest_difference(log_ratio_sd, n, alpha, every_seed)
    return None if shift is None else math.exp(-shift)


def smallest_difference(sd: float | None, n: int, alpha: float = 0.05, every_seed: bool = False) -> float | None:
    """Return the difference, above 0 and in the unit of `sd`, that a race finds with 80 % power.

    Computed for normal differences and the paired t-test at the level that sign flips of n differences attain below
    alpha, which the sign-flip test follows closely (simulated power 70 to 82 %); where only n equal signs reach alpha,
    for the chance of those. With looks after every seed, simulated by betting on normal differences.

    Args:
        sd: what `spread` returned of the differences.
        n: number of seeds.
        alpha: two-sided level that a single contender must meet, after corrections for contenders and looks.
        every_seed: whether the race looks after every seed, up to n.

    Returns:
        The difference; None when the spread is unknown or n seeds cannot reach alpha at all.
    """
    if sd is None or not math.isfinite(sd) or n < 2 or not can_reach(n, 1, alpha, every_seed):
        return None
    shift = (_detectable_by_betting if every_seed else _detectable)(n, alpha)
    return sd * shift if math.isfinite(shift) else None


@lru_cache
def _detectable_by_betting(n: int, alpha: float) -> float:
    """Return the mean, in standard deviations, that betting on n normal differences finds in 80 %, or infinity."""
    draws = np.random.default_rng(SEED).standard_normal((_DRAWS, n))

    def missing(shift: float) -> float:
        return POWER - float(np.mean(wealth(draws + shift).max(axis=-1) >= 1 / alpha))

    low, high = 0.0, 8.0
    if missing(high) > 0:
        return math.inf
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if missing(middle) <= 0 else (middle, high)
    return high


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
