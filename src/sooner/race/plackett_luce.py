"""Strengths from rankings that each hold only some of the contenders (Plackett-Luce).

A ranking says that its first place was chosen before all the others with probability s_1 / (s_1 + s_2 + …), its second
before the rest, and so on. Contenders in one tier are tied: a tie says nothing about them, only about those below.
Aggregating rankings instead of averaging ratios lets most cells of the table be empty, as in ONEBench (Ghosh et al.,
2024, arXiv 2412.06745). Luce, 1959; Plackett, 1975.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

Array = NDArray[np.float64]

PRIOR = 0.01
"""Weight of the pull towards equal strengths: it keeps a contender that never lost at a finite strength."""


@dataclass(frozen=True)
class Ranking:
    """One comparison.

    Args:
        tiers: contenders from first to last; those in one tier are tied. Misses are the last tier.
        weight: how much it counts, above 0.
    """

    tiers: tuple[tuple[str, ...], ...]
    weight: float = 1.0


class Terms:
    """The choices that rankings consist of: each contender against all of the tiers below it."""

    def __init__(self, rankings: Sequence[Ranking], names: Sequence[str]) -> None:
        position = {name: i for i, name in enumerate(names)}
        winners, losers, weights = [], [], []
        for ranking in rankings:
            for i, tier in enumerate(ranking.tiers[:-1]):
                below = [position[name] for later in ranking.tiers[i + 1 :] for name in later]
                for name in tier:
                    mask = np.zeros(len(names), dtype=bool)
                    mask[below] = True
                    mask[position[name]] = True
                    winners.append(position[name])
                    losers.append(mask)
                    weights.append(ranking.weight)
        self.winners = np.array(winners, dtype=np.intp)  # [terms]
        self.among = np.array(losers, dtype=bool).reshape(len(winners), len(names))  # [terms, contenders]
        self.weights = np.array(weights, dtype=np.float64)


def strengths(rankings: Sequence[Ranking], names: Sequence[str]) -> Array:
    """Return the logarithm of every contender's strength, float64 [contenders], with mean 0.

    Args:
        rankings: the comparisons.
        names: the contenders; each should be connected with the others by comparisons (see `connected`).
    """
    terms = Terms(rankings, names)
    if not terms.winners.size:
        return np.zeros(len(names))

    def loss(theta: Array) -> tuple[float, Array]:
        scores = np.where(terms.among, theta, -np.inf)
        total = special.logsumexp(scores, axis=1)
        value = float(terms.weights @ (total - theta[terms.winners])) + PRIOR / 2 * float(theta @ theta)
        slope = terms.weights @ np.exp(scores - total[:, None]) + PRIOR * theta
        np.subtract.at(slope, terms.winners, terms.weights)
        return value, slope

    found = optimize.minimize(loss, np.zeros(len(names)), jac=True, method="L-BFGS-B")
    theta: Array = found.x - found.x.mean()
    return theta


def connected(rankings: Sequence[Ranking]) -> list[list[str]]:
    """Return the groups of contenders that comparisons connect, the largest first; no scale joins two groups."""
    group: dict[str, set[str]] = {}
    for ranking in rankings:
        names = [name for tier in ranking.tiers for name in tier]
        decided = len(ranking.tiers) > 1
        joined = set(names) if decided else set()
        for name in names:
            joined |= group.get(name, {name}) if decided else set()
            group.setdefault(name, {name})
        for name in joined:
            group[name] = joined
    unique = {id(members): sorted(members) for members in group.values()}
    return sorted(unique.values(), key=lambda members: (-len(members), members))


def ranks(theta: Array) -> NDArray[np.int64]:
    """Return the rank of every contender, 1 for the strongest."""
    order = np.argsort(-theta, kind="stable")
    found = np.empty(len(theta), dtype=np.int64)
    found[order] = np.arange(1, len(theta) + 1)
    return found
