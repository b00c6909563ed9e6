"""Tests and intervals that hold after every seed: somebody bets against "there is no difference" and may not get rich.

If contender and baseline are equally good, each paired difference is as likely as its negative, whatever its size. A
bet on its sign is then fair, and so is the wealth of whoever bets a share of it on every seed, as long as the share
depends on nothing later: wealth is a martingale that begins at 1, and reaches 1 / alpha at any time whatsoever with a
chance of at most alpha (Ville, 1939). So a race may look after every seed and stop when it likes. Bets on symmetric
differences are in Ramdas et al., 2020, arXiv 2009.03167; intervals by betting in Waudby-Smith & Ramdas, 2020, arXiv
2010.09686.

Half of the wealth bets on signs alone, so that few clear seeds suffice and misses count; half bets more on larger
differences, measured by those seen so far, this seed's size included, which says nothing of its sign. Each half is
spread over shares of both directions by an arcsine-like law, Beta(1/4, 1/4), which favours bold ones.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from sooner.race.statistics.pairs import Array, center, known

_SHARES = 24
_BOLD = 0.25
_CANDIDATES = 201


@lru_cache
def _shares() -> tuple[Array, Array]:
    """Return the shares that are bet, in (-1, 1), and how much of the wealth bets each: a fixed mixture, so fair."""
    shares, weights = special.roots_jacobi(_SHARES, _BOLD - 1, _BOLD - 1)
    return shares, weights / weights.sum()


def wealth(differences: ArrayLike) -> Array:
    """Return what a bettor owns after each seed who began with 1.

    Args:
        differences: one per seed in the order of the seeds, [..., seeds]; infinite for a miss of one side; NaN, a seed
            that says nothing, is no bet, and neither is 0.

    Returns:
        The wealth, [..., seeds].
    """
    x = np.asarray(differences, dtype=np.float64)
    x = np.where(np.isnan(x), 0.0, x)
    sizes, signs = np.abs(x), np.sign(x)
    counted = np.isfinite(x) & (x != 0)
    roots = np.cumsum(np.where(counted, np.sqrt(np.where(counted, sizes, 0.0)), 0.0), axis=-1)
    # the typical size so far: a power mean near the median of a normal law, which neither outliers nor ties move far
    typical = (roots / np.maximum(np.cumsum(counted, axis=-1), 1)) ** 2
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.where(counted, sizes / typical, np.inf)
    halves = np.stack([signs, signs * np.tanh(ratio)])  # [2, ..., seeds]
    shares, weights = _shares()
    total = np.zeros(x.shape)
    for share, weight in zip(shares, weights, strict=True):
        total += weight / 2 * np.exp(np.cumsum(np.log1p(share * halves), axis=-1)).sum(axis=0)
    return total


def betting_p(differences: ArrayLike) -> float:
    """Return a p-value of "no difference" that holds whenever one looks: 1 over the most that was ever owned.

    Returns:
        p in (0, 1]; 1.0 for no seed.
    """
    x = known(differences)
    return float(1 / max(1.0, wealth(x).max())) if x.size else 1.0


def smallest_betting_p(n: int) -> float:
    """Return the smallest p-value that n seeds can give: the one where only one side ever arrives."""
    return betting_p(np.full(n, np.inf))


def betting_interval(differences: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Return an interval for the centre of the differences that holds after every seed at once, with this chance.

    It is what no bettor has refuted so far: the values m for which the bets against "differences lie as often and as
    far above m as below" never reached 1 / (1 - level). 0 lies outside where `betting_p` is at most 1 - level.

    Args:
        differences: one per seed in the order of the seeds.
        level: the chance that the interval holds the centre of symmetry after all seeds.

    Returns:
        (low, high), infinite where too few seeds bound it, or misses reach into it.
    """
    x = known(differences)
    finite = x[np.isfinite(x)]
    if not finite.size:
        middle = center(x)
        refuted = x.size > 0 and betting_p(x) <= 1 - level
        return (middle, middle) if refuted and math.isinf(middle) else (-math.inf, math.inf)
    low, high = float(finite.min()), float(finite.max())
    reach = 2 * (high - low) + 1e-9 * max(abs(low), abs(high), 1e-300)
    candidates = np.linspace(low - reach, high + reach, _CANDIDATES)
    open_to = _not_refuted(
        x, np.concatenate([candidates, candidates[[0, -1]] + 1e6 * reach * np.array([-1, 1])]), level
    )
    left, right, inside = open_to[-2], open_to[-1], np.flatnonzero(open_to[:-2])
    if not inside.size:
        middle = center(x)
        return (-math.inf if left else middle), (math.inf if right else middle)
    first, last = int(inside[0]), int(inside[-1])
    lower = -math.inf if left or first == 0 else _edge(x, candidates[first - 1], candidates[first], level)
    upper = (
        math.inf if right or last == len(candidates) - 1 else _edge(x, candidates[last + 1], candidates[last], level)
    )
    return lower, upper


def _not_refuted(x: Array, candidates: Array, level: float) -> Array:
    """Say of each candidate whether nobody has refuted it so far, [candidates]."""
    found: Array = wealth(x[None] - candidates[:, None]).max(axis=-1) < 1 / (1 - level)
    return found


def _edge(x: Array, outside: float, inside: float, level: float) -> float:
    """Return where the candidates begin that are not refuted, from one that is and a neighbour that is not."""
    for _ in range(24):
        middle = (outside + inside) / 2
        if _not_refuted(x, np.array([middle]), level)[0]:
            inside = middle
        else:
            outside = middle
    return float(outside)
