"""The table: who stands where, and its cautions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sooner.error import SoonerError
from sooner.league.comparisons import Collected, Comparison
from sooner.league.joining import Apart, conditions, joined, reference_of, through_others
from sooner.league.order import fit, rankings_of
from sooner.league.trust import agreement, intervals, swaps_of, without
from sooner.race.plackett_luce import connected, ranks


@dataclass(frozen=True)
class Row:
    """One contender.

    Attributes:
        recipe: as written.
        strength: its logarithm.
        rank: 1 for the strongest.
        low: lower end of the rank's interval.
        high: upper end.
        without: its rank without each workload.
        ratios: by workload, steps over those of the median contender.
        comparisons: on how many the rank rests: seeds of races in which it ran.
        workloads: on how many workloads it ran.
        direct: in how many of its comparisons the reference ran too.
    """

    recipe: str
    strength: float
    rank: int
    low: int
    high: int
    without: Mapping[str, int]
    ratios: Mapping[str, float | None]
    comparisons: int
    workloads: int
    direct: int


@dataclass(frozen=True)
class League:
    """The table and its cautions.

    Attributes:
        rows: best first.
        workloads: names of the tasks with a comparison.
        reference: the arm that most comparisons hold, with which all others are joined.
        apart: groups of contenders that no comparison joins with the table.
        through: contenders of the table that only a chain of others joins with the reference.
        variants: recipes of claims that are no contenders of their own.
        stability: per workload left out, Kendall's tau between the orders with and without it; None where too few stay.
        swaps: (contender taken out, first, second): two others that change places without it.
        comparisons: how many seeds of how many races.
    """

    rows: list[Row]
    workloads: list[str]
    reference: str
    apart: list[Apart]
    through: list[Apart]
    variants: list[str]
    stability: dict[str, float | None]
    swaps: list[tuple[str, str, str]]
    comparisons: int


def table(
    raced: Collected | Sequence[Comparison], watch: Callable[[str, float], object] = lambda what, share: None
) -> League:
    """Return the league of the largest connected group of contenders.

    Args:
        raced: what `collect` found, or comparisons alone.
        watch: is told what is being worked out, and which share of that is done.

    Raises:
        SoonerError: there is nothing to compare.
    """
    comparisons, left = (raced.comparisons, raced.variants) if isinstance(raced, Collected) else (raced, [])
    rankings = rankings_of(comparisons)
    groups = connected([r for some in rankings.values() for r in some])
    if not groups or len(groups[0]) < 2:
        raise SoonerError("no finished race compares two contenders; run `sooner race` first, or name its folder")
    names = groups[0]
    reference = reference_of(comparisons, names)
    theta = fit(rankings, names)
    place = ranks(theta)
    low, high = intervals(rankings, names, theta, watch)
    left_out = {}
    for done, w in enumerate(rankings):
        watch("without one workload", done / len(rankings))
        left_out[w] = without(rankings, w, names)
    rows = [
        Row(
            name,
            float(theta[i]),
            int(place[i]),
            int(low[i]),
            int(high[i]),
            {w: order[name] for w, order in left_out.items() if name in order},
            {w: _ratio([c for c in comparisons if c.workload == w], name) for w in rankings},
            sum(name in c.steps for c in comparisons),
            len({c.workload for c in comparisons if name in c.steps}),
            sum(name in c.steps and reference in c.steps for c in comparisons),
        )
        for i, name in enumerate(names)
    ]
    return League(
        sorted(rows, key=lambda row: row.rank),
        list(rankings),
        reference,
        [Apart(group, joined(conditions(comparisons, group), reference, group[:1])) for group in groups[1:]],
        through_others(comparisons, reference, sorted(row.recipe for row in rows if not row.direct)),
        left,
        {w: agreement(dict(zip(names, place, strict=True)), order) for w, order in left_out.items()},
        swaps_of(rankings, names, theta, watch),
        len(comparisons),
    )


def _ratio(comparisons: Sequence[Comparison], recipe: str) -> float | None:
    """Return a recipe's steps over the median contender's (geometric mean), None where it has not run or misses."""
    logs = []
    for c in comparisons:
        if recipe not in c.steps:
            continue
        ours = c.steps[recipe]
        everybody = sorted(math.inf if s is None else s for s in c.steps.values())
        middle = everybody[(len(everybody) - 1) // 2]
        if ours is None or ours <= 0 or not 0 < middle < math.inf:
            return None
        logs.append(math.log(ours / middle))
    return math.exp(sum(logs) / len(logs)) if logs else None
