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
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

Array = NDArray[np.float64]

PRIOR = 0.01
"""Weight of the pull towards equal strengths: it keeps a contender that never lost at a finite strength."""

_STEPS = 100
_CLOSE = 1e-14
"""The search ends where a step promises to lower the loss by less than this share of it."""


@dataclass(frozen=True)
class Ranking:
    """One comparison.

    Args:
        tiers: contenders from first to last; those in one tier are tied. Misses are the last tier.
        weight: how much it counts, above 0.
    """

    tiers: tuple[tuple[str, ...], ...]
    weight: float = 1.0


class Choices:
    """The choices that rankings consist of: each contender against all of the tiers below it.

    They are listed once; the strengths under any weights of the rankings, such as a bootstrap draws, then take a few
    Newton steps each. Rankings that say the same share their choices.

    Args:
        rankings: the comparisons.
        names: the contenders; those that a ranking names besides are passed over.
    """

    def __init__(self, rankings: Sequence[Ranking], names: Sequence[str]) -> None:
        position = {name: i for i, name in enumerate(names)}
        self.contenders = len(names)
        known: dict[tuple[tuple[int, ...], ...], int] = {}
        kinds = []  # which of the different rankings each one is
        for ranking in rankings:
            listed = (tuple(sorted(position[name] for name in tier if name in position)) for tier in ranking.tiers)
            kinds.append(known.setdefault(tuple(tier for tier in listed if tier), len(known)))
        winners, members, starts, owners = [], [], [0], []
        for kind, tiers in enumerate(known):
            for i, tier in enumerate(tiers[:-1]):
                below = [number for later in tiers[i + 1 :] for number in later]
                for winner in tier:
                    members += [winner, *below]
                    starts.append(len(members))
                    winners.append(winner)
                    owners.append(kind)
        self._kinds = np.array(kinds, dtype=np.intp)  # [rankings]
        self._number = len(known)
        self._winners = np.array(winners, dtype=np.intp)  # [choices]
        self._owners = np.array(owners, dtype=np.intp)  # [choices], the different rankings they are of
        self._members = np.array(members, dtype=np.intp)  # who could have been chosen, choice after choice
        self._starts = np.array(starts, dtype=np.intp)  # [choices + 1], where each begins

    def strengths(self, weights: ArrayLike, start: Array | None = None) -> Array:
        """Return the logarithm of every contender's strength, float64 [contenders], with mean 0.

        Args:
            weights: how much each ranking counts, [rankings]; 0 leaves it out.
            start: strengths that are near, from which the search begins.
        """
        per_kind = np.bincount(self._kinds, np.asarray(weights, dtype=np.float64), self._number)
        weight = per_kind[self._owners]
        if not weight.any():
            return np.zeros(self.contenders)
        used = weight > 0
        sizes = np.diff(self._starts)[used]
        members = self._members[np.repeat(used, np.diff(self._starts))]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        weight, won = weight[used], np.bincount(self._winners[used], weight[used], self.contenders)
        spread_weight = np.repeat(weight, sizes)

        def chances(theta: Array) -> tuple[float, Array]:
            scores = theta[members]
            top = np.maximum.reduceat(scores, starts[:-1])
            raised = np.exp(scores - np.repeat(top, sizes))
            totals = np.add.reduceat(raised, starts[:-1])
            loss = float(weight @ (top + np.log(totals)) - won @ theta + PRIOR / 2 * theta @ theta)
            return loss, raised / np.repeat(totals, sizes)

        theta = np.zeros(self.contenders) if start is None else start.copy()
        loss, chance = chances(theta)
        for _ in range(_STEPS):
            expected = np.bincount(members, spread_weight * chance, self.contenders)
            slope = expected - won + PRIOR * theta
            shape = (len(weight), self.contenders)
            rows = sparse.csr_array((chance * np.sqrt(spread_weight), members, starts), shape=shape)
            curvature = np.diag(expected + PRIOR) - (rows.T @ rows).toarray()
            step = np.linalg.solve(curvature, slope)
            promised = float(slope @ step)
            if promised <= _CLOSE * max(1.0, abs(loss)):
                break
            size = 1.0  # halved until the loss falls as a convex one must
            while (found := chances(theta - size * step))[0] > loss - 1e-4 * size * promised and size > 1e-9:
                size /= 2
            theta = theta - size * step
            loss, chance = found
        centred: Array = theta - theta.mean()
        return centred


def strengths(rankings: Sequence[Ranking], names: Sequence[str]) -> Array:
    """Return the logarithm of every contender's strength, float64 [contenders], with mean 0.

    Args:
        rankings: the comparisons.
        names: the contenders; each should be connected with the others by comparisons (see `connected`).
    """
    return Choices(rankings, names).strengths([ranking.weight for ranking in rankings])


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
    """Return the rank of every contender, 1 for the strongest; equal to nine decimals, they keep their order."""
    order = np.argsort(-theta.round(9), kind="stable")
    found = np.empty(len(theta), dtype=np.int64)
    found[order] = np.arange(1, len(theta) + 1)
    return found
