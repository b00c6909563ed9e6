"""How far to trust the order: what moves it that is chance, one workload, or the presence of one contender."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from sooner.league.order import fit, only
from sooner.race.plackett_luce import Choices, Ranking, connected, ranks

RESAMPLES = 200
LEVEL = 0.9
_SEED = 20_261_124


def intervals(
    rankings: Mapping[str, Sequence[Ranking]], names: Sequence[str], theta: Any, watch: Callable[[str, float], object]
) -> tuple[Any, Any]:
    """Return the bounds of each rank over resampled workloads, and resampled seeds inside each.

    What a resample draws is how often each ranking counts; the choices it consists of stay.
    """
    generator = np.random.default_rng(_SEED)
    some = list(rankings.values())
    choices = Choices([only(r, names) for each in some for r in each], names)
    begins = np.cumsum([0, *map(len, some)])
    weights = np.array([r.weight for each in some for r in each])
    drawn = []
    for resample in range(RESAMPLES):
        watch("intervals of the ranks", resample / RESAMPLES)
        counts = np.zeros(len(weights))
        for w in generator.choice(len(some), size=len(some)):
            seeds = generator.integers(0, len(some[w]), size=len(some[w]))
            counts[begins[w] : begins[w + 1]] += np.bincount(seeds, minlength=len(some[w]))
        drawn.append(ranks(choices.strengths(counts * weights, theta)))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(np.array(drawn), [tail, 1 - tail], axis=0, method="inverted_cdf")
    return low, high


def without(rankings: Mapping[str, Sequence[Ranking]], workload: str, names: Sequence[str]) -> dict[str, int]:
    """Return the ranks among those that the other workloads still connect."""
    rest = {w: some for w, some in rankings.items() if w != workload}
    groups = connected([only(r, names) for some in rest.values() for r in some])
    if not groups or len(groups[0]) < 2:
        return {}
    return dict(zip(groups[0], (int(rank) for rank in ranks(fit(rest, groups[0]))), strict=True))


def agreement(order: Mapping[str, Any], other: Mapping[str, int]) -> float | None:
    """Return Kendall's tau over the contenders in both orders, None for fewer than three."""
    both = [name for name in order if name in other]
    if len(both) < 3:
        return None
    return float(stats.kendalltau([order[name] for name in both], [other[name] for name in both]).statistic)


def swaps_of(
    rankings: Mapping[str, Sequence[Ranking]], names: Sequence[str], theta: Any, watch: Callable[[str, float], object]
) -> list[tuple[str, str, str]]:
    """Return the pairs that change places when one contender is taken out of every race."""
    found = []
    everybody = [r for some in rankings.values() for r in some]
    weights = [r.weight for r in everybody]
    for done, out in enumerate(names):
        watch("without one contender", done / len(names))
        rest = [name for name in names if name != out]
        groups = connected([only(r, rest) for r in everybody])
        if not groups or len(groups[0]) < len(rest):
            continue  # it is what connects the others
        before = {name: rank for name, rank in zip(names, ranks(theta), strict=True) if name != out}
        near = np.array([strength for name, strength in zip(names, theta, strict=True) if name != out])
        after = dict(zip(rest, ranks(Choices(everybody, rest).strengths(weights, near)), strict=True))
        ordered = sorted(rest, key=lambda name: before[name])
        found += [
            (out, ordered[i], ordered[j])
            for i in range(len(ordered))
            for j in range(i + 1, len(ordered))
            if after[ordered[i]] > after[ordered[j]]
        ]
    return found
