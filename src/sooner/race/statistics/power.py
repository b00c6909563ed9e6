"""How small an effect a race could have found."""

import math
from functools import lru_cache

from scipy import optimize, special

from sooner.race.statistics.sign_flips import smallest_p

POWER = 0.8
"""The chance of being found that `smallest_effect` asks for."""


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
