"""How likely differences are luck: the exact sign-flip test, alone and for several contenders and looks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from sooner.race.statistics.pairs import SEED, known

ENUMERATED = 16
"""Up to this many differences the sign-flip test enumerates all sign patterns (2^16), beyond it draws as many."""


def sign_flip(differences: ArrayLike) -> float:
    """Return the exact two-sided p-value of the hypothesis that each difference is as likely as its negative.

    The statistic is the absolute sum, of the differences or, when any is infinite, of their signs. All sign patterns
    are enumerated for up to 16 differences; beyond that 65,536 random patterns are drawn from a fixed generator and the
    observed one is counted among them, which keeps the test valid. Sums that agree to nine digits are ties, so that
    rounding errors cannot change p.

    Returns:
        p in (0, 1]; 1.0 for fewer than two differences.
    """
    x = known(differences)
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
    signs = np.random.default_rng(SEED).choice([-1.0, 1.0], size=(2**ENUMERATED, x.size))
    return float((1 + np.count_nonzero(np.abs(signs @ x) >= reached)) / (1 + 2**ENUMERATED))


def holm(ps: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for being the luckiest of several (Holm, 1979), in the order given."""
    adjusted = [1.0] * len(ps)
    so_far = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        so_far = max(so_far, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = so_far
    return adjusted


def smallest_p(n: int) -> float:
    """Return the smallest p-value that `sign_flip` can give with n seeds: 2^(1 - n) as long as it enumerates."""
    if n < 2:
        return 1.0
    return 2.0 ** (1 - n) if n <= ENUMERATED else 1 / (1 + 2**ENUMERATED)
