"""The league table: parts by workloads, from every race on disk and all published evidence, with how far to trust it.

One arm is the reference: the one that most comparisons hold. What no chain of races joins with it stands apart, beside
the race that would join it. Recipes that a claim wrote to take a method apart, or to run it in its paper's settings,
are no contenders of their own.

Each racing seed of each race ranks the contenders that ran it by their steps to the middle target; Plackett-Luce turns
these partial rankings into one order. What an order owes to chance shows in bootstrap intervals of the ranks, what it
owes to one workload in the orders without it, and what it owes to the set of contenders in the pairs that change places
when one contender is taken out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from sooner.claims import _evidence
from sooner.error import SoonerError
from sooner.race.journal import FILE, read
from sooner.race.plackett_luce import Choices, Ranking, connected, ranks, strengths
from sooner.recipe.text import parse

RESAMPLES = 200
LEVEL = 0.9
_SEED = 20_261_124


@dataclass(frozen=True)
class Comparison:
    """One racing seed of one race.

    Attributes:
        workload: name of the task.
        setting: what else must agree for two runs to be comparable, such as the budget and the target.
        seed: the racing seed.
        steps: steps to the middle target by recipe, None for a miss.
        race: the command that races others under the same conditions, without its recipes.
    """

    workload: str
    setting: str
    seed: int
    steps: Mapping[str, float | None]
    race: str = ""


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
class Apart:
    """Contenders that never ran beside the reference.

    Attributes:
        contenders: their names.
        race: the command of a race in which they would; empty where nobody knows it.
    """

    contenders: list[str]
    race: str


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


@dataclass(frozen=True)
class Collected:
    """What raced.

    Attributes:
        comparisons: one per race and seed.
        variants: recipes of claims that are no contenders of their own; they are in no comparison.
    """

    comparisons: list[Comparison]
    variants: list[str]


def collect(folders: Iterable[Path], published: bool = True) -> Collected:
    """Return the comparisons of every finished race below the folders, and of the published evidence.

    Races of one task, budget and target share a ranking: contenders that raced the same baseline meet in it.

    Raises:
        SoonerError: published evidence is damaged.
    """
    found = [one for folder in folders for one in _results(folder)]
    results, claimed = [result for result, _ in found], [claims for _, claims in found]
    if published:
        for name in _evidence.published():
            evidence = _evidence.find(name)
            results += [f for f in evidence.findings.values() if "contenders" in f] if evidence else []
    claimed += [True] * (len(results) - len(claimed))
    own = {row["recipe"] for result, claim in zip(results, claimed, strict=True) if not claim for row in _raced(result)}
    every = {row["recipe"] for result in results for row in _raced(result)}
    left = variants(every) - own
    merged: dict[tuple[str, str, int], dict[str, float | None]] = {}
    races: dict[tuple[str, str, int], str] = {}
    for result in results:
        task, target = result["task"], result["targets"].get("middle")
        if target is None:
            continue
        setting = f"{result['regime']}, {task['steps']} steps, {task['fingerprint']}, target {target:.6g}"
        for row in _raced(result):
            if row["recipe"] in left:
                continue
            for seed, steps in zip(result["seeds"]["racing"], row["targets"]["middle"]["steps"], strict=False):
                merged.setdefault((task["name"], setting, seed), {})[row["recipe"]] = steps
                races[task["name"], setting, seed] = _command(result)
    made = [Comparison(*key, steps, races[key]) for key, steps in merged.items() if len(steps) > 1]
    return Collected(made, sorted(left))


def variants(recipes: Iterable[str]) -> set[str]:
    """Return the recipes that fix more settings than another one of the same parts, or hold a class of a claim."""
    read = {recipe: parse(recipe) for recipe in recipes}
    fixed = {
        recipe: {(k, *one) for k, call in enumerate(calls) for one in call.settings.items()}
        for recipe, calls in read.items()
    }
    of_claims = {r for r, calls in read.items() if any(call.name.startswith("sooner.claims.") for call in calls)}
    parts: dict[tuple[str, ...], list[str]] = {}
    for recipe, calls in read.items():
        parts.setdefault(tuple(call.name for call in calls), []).append(recipe)
    more = {
        recipe
        for same in parts.values()
        for recipe in same
        if any(all(x in fixed[recipe] for x in fixed[other]) and fixed[other] != fixed[recipe] for other in same)
    }
    return of_claims | more


def _raced(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [row for row in result["contenders"] if row["status"] == "raced"]


def _command(result: Mapping[str, Any]) -> str:
    """Return the command, without recipes, of a race under the conditions of this one."""
    task = result["task"]
    many = any(row.get("communication") for row in result["contenders"])
    workers = result.get("workers", 1)
    crew = f" --workers {workers}" if workers > 1 else " --workers ..." if many else ""
    regime = " --regime budgeted" if result["regime"] == "budgeted" else ""
    return f"sooner race {task['spec'] or task['name']} --steps {task['steps']}{regime}{crew}"


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
    rankings = _rankings(comparisons)
    groups = connected([r for some in rankings.values() for r in some])
    if not groups or len(groups[0]) < 2:
        raise SoonerError("no finished race compares two contenders; run `sooner race` first, or name its folder")
    names = groups[0]
    reference = _reference(comparisons, names)
    theta = _fit(rankings, names)
    place = ranks(theta)
    low, high = _intervals(rankings, names, theta, watch)
    left_out = {}
    for done, w in enumerate(rankings):
        watch("without one workload", done / len(rankings))
        left_out[w] = _without(rankings, w, names)
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
        [Apart(group, _joined(_conditions(comparisons, group), reference, group[:1])) for group in groups[1:]],
        _through(comparisons, reference, sorted(row.recipe for row in rows if not row.direct)),
        left,
        {w: _agreement(dict(zip(names, place, strict=True)), order) for w, order in left_out.items()},
        _swaps(rankings, names, theta, watch),
        len(comparisons),
    )


def _reference(comparisons: Sequence[Comparison], names: Sequence[str]) -> str:
    """Return the contender that most comparisons hold; of several, the one that ran beside most others."""
    beside = {name: {other for c in comparisons if name in c.steps for other in c.steps} for name in names}
    return max(names, key=lambda name: (sum(name in c.steps for c in comparisons), len(beside[name]), name))


def _conditions(comparisons: Sequence[Comparison], group: Sequence[str]) -> str:
    """Return the command, without recipes, of the race in which the first of the group ran most."""
    races = [c.race for c in comparisons if group[0] in c.steps and c.race]
    return max(races, key=races.count, default="")


def _joined(race: str, reference: str, group: Sequence[str]) -> str:
    return f'{race} --recipes "{"; ".join([reference, *group])}"' if race else ""


def _through(comparisons: Sequence[Comparison], reference: str, names: Sequence[str]) -> list[Apart]:
    """Return contenders that need a race with the reference, those together that can run in the same one."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_conditions(comparisons, [name]), []).append(name)
    return [Apart(group, _joined(race, reference, group)) for race, group in found.items()]


def _results(folder: Path) -> Iterable[tuple[dict[str, Any], bool]]:
    """Yield the result of every finished race, and whether a claim made it: its races lie beside its evidence."""
    for path in sorted(folder.rglob(FILE)):
        try:
            result = read(path.parent).find("result", "result")
        except SoonerError:
            continue  # another journal, or a damaged one, which `sooner show` explains
        if result is not None:
            yield result, any(path.parents[2].glob("*/evidence.jsonl"))


def _rankings(comparisons: Sequence[Comparison]) -> dict[str, list[Ranking]]:
    """Return the rankings by workload; every workload counts as much, however many races it has had."""
    found: dict[str, list[tuple[tuple[str, ...], ...]]] = {}
    for c in comparisons:
        by_steps: dict[float, list[str]] = {}
        for recipe, steps in c.steps.items():
            by_steps.setdefault(math.inf if steps is None else steps, []).append(recipe)
        found.setdefault(c.workload, []).append(tuple(tuple(by_steps[steps]) for steps in sorted(by_steps)))
    mean = len(comparisons) / max(1, len(found))
    return {w: [Ranking(tiers, mean / len(some)) for tiers in some] for w, some in sorted(found.items())}


def _fit(rankings: Mapping[str, Sequence[Ranking]], names: Sequence[str]) -> Any:
    return strengths([_only(r, names) for some in rankings.values() for r in some], names)


def _only(ranking: Ranking, names: Sequence[str]) -> Ranking:
    known = set(names)
    tiers = [tuple(name for name in tier if name in known) for tier in ranking.tiers]
    return Ranking(tuple(tier for tier in tiers if tier), ranking.weight)


def _intervals(
    rankings: Mapping[str, Sequence[Ranking]], names: Sequence[str], theta: Any, watch: Callable[[str, float], object]
) -> tuple[Any, Any]:
    """Return the bounds of each rank over resampled workloads, and resampled seeds inside each.

    What a resample draws is how often each ranking counts; the choices it consists of stay.
    """
    generator = np.random.default_rng(_SEED)
    some = list(rankings.values())
    choices = Choices([_only(r, names) for each in some for r in each], names)
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


def _without(rankings: Mapping[str, Sequence[Ranking]], workload: str, names: Sequence[str]) -> dict[str, int]:
    """Return the ranks among those that the other workloads still connect."""
    rest = {w: some for w, some in rankings.items() if w != workload}
    groups = connected([_only(r, names) for some in rest.values() for r in some])
    if not groups or len(groups[0]) < 2:
        return {}
    return dict(zip(groups[0], (int(rank) for rank in ranks(_fit(rest, groups[0]))), strict=True))


def _agreement(order: Mapping[str, Any], other: Mapping[str, int]) -> float | None:
    """Return Kendall's tau over the contenders in both orders, None for fewer than three."""
    both = [name for name in order if name in other]
    if len(both) < 3:
        return None
    return float(stats.kendalltau([order[name] for name in both], [other[name] for name in both]).statistic)


def _swaps(
    rankings: Mapping[str, Sequence[Ranking]], names: Sequence[str], theta: Any, watch: Callable[[str, float], object]
) -> list[tuple[str, str, str]]:
    """Return the pairs that change places when one contender is taken out of every race."""
    found = []
    everybody = [r for some in rankings.values() for r in some]
    weights = [r.weight for r in everybody]
    for done, out in enumerate(names):
        watch("without one contender", done / len(names))
        rest = [name for name in names if name != out]
        groups = connected([_only(r, rest) for r in everybody])
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
