"""One order of all contenders: the rankings of the seeds, by workload, and the strengths that fit them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sooner.league.comparisons import Comparison
from sooner.race.plackett_luce import Ranking, strengths


def rankings_of(comparisons: Sequence[Comparison]) -> dict[str, list[Ranking]]:
    """Return the rankings by workload; every workload counts as much, however many races it has had."""
    found: dict[str, list[tuple[tuple[str, ...], ...]]] = {}
    for c in comparisons:
        by_steps: dict[float, list[str]] = {}
        for recipe, steps in c.steps.items():
            by_steps.setdefault(math.inf if steps is None else steps, []).append(recipe)
        found.setdefault(c.workload, []).append(tuple(tuple(by_steps[steps]) for steps in sorted(by_steps)))
    mean = len(comparisons) / max(1, len(found))
    return {w: [Ranking(tiers, mean / len(some)) for tiers in some] for w, some in sorted(found.items())}


def fit(rankings: Mapping[str, Sequence[Ranking]], names: Sequence[str]) -> Any:
    """Return the logarithm of the strength of each name."""
    return strengths([only(r, names) for some in rankings.values() for r in some], names)


def only(ranking: Ranking, names: Sequence[str]) -> Ranking:
    """Return the ranking of those among the names; tiers that they leave empty are gone."""
    known = set(names)
    tiers = [tuple(name for name in tier if name in known) for tier in ranking.tiers]
    return Ranking(tuple(tier for tier in tiers if tier), ranking.weight)
