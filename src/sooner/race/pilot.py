"""Before a race: how many seeds and steps a wanted effect needs on this task, from a few runs of the baseline.

A pilot tunes the baseline and runs it ten times, on seeds that no race of the series uses, so that nothing of it can
enter a verdict. From one long run of each seed it also sees shorter and longer budgets. Where finished races of the
same task and budget lie beside it, they tell more, since they know how contender and baseline go together on a seed.
"""

from __future__ import annotations

import contextlib
import math
import statistics as stdlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sooner.error import SoonerError
from sooner.loop import evaluation_steps
from sooner.race import limits, statistics
from sooner.race.entrant import Entrant
from sooner.race.evidence import PRIMARY
from sooner.race.journal import Journal, View
from sooner.race.plan import Plan
from sooner.race.planned import Planned
from sooner.race.pool import Pool
from sooner.race.referee import Race, pool_of, provenance
from sooner.race.shelf import views
from sooner.race.statistics.planning import Looking, Spread, power, seeds_for, spread_of_log_steps, visible
from sooner.race.targets import (
    LADDER,
    confirmed_crossing,
    horizon_to_target,
    targets_anytime,
    targets_budgeted,
)
from sooner.recipe import Recipe
from sooner.task import check
from sooner.watch import Watch

EFFECTS = (0.95, 0.9, 0.85, 0.8, 0.7, 0.5)
_LEAST_HITS = 6


@dataclass(frozen=True)
class Known:
    """What is known of luck at one budget.

    Args:
        steps: the budget.
        spread: of log steps to the target; None where too few runs arrive.
        hits: runs of the baseline that arrived at the target.
        runs: how many there were.
        final_sd: standard deviation of a paired difference of the final value.
        cpu_seconds: of one run of this budget.
        source: where that comes from, in words.
        seen: whether it comes from races, whose racing seeds have been looked at.
    """

    steps: int
    spread: Spread | None
    hits: int
    runs: int
    final_sd: float | None
    cpu_seconds: float
    source: str
    seen: bool = False


def pilot(plan: Planned, watch: Watch | None = None, pool: Pool | None = None) -> list[Known]:
    """Return what is known of luck, at the plan's budget first: from finished races beside it, else from a pilot.

    A pilot is kept in a journal of its own and goes on where it was stopped, like a race.

    Args:
        plan: the race that is thought of.
        watch: is told what the pilot does.
        pool: workers to use; None starts them and ends them afterwards.

    Raises:
        SoonerError: the folder can't be used, or the baseline cannot run.
    """
    earlier = from_races(plan)
    if earlier is not None:
        return [earlier]
    alone = pilot_of(plan)
    with (
        Journal.open(alone.folder(), alone.identity(), provenance(alone)) as journal,
        contextlib.nullcontext(pool) if pool else pool_of(alone) as workers,
    ):
        return _run(Race(alone, journal, workers, watch or Watch(), None))


def pilot_of(plan: Planned) -> Planned:
    """Return the plan of the pilot for a race: the baseline alone, in the same regime, on seeds of its own."""
    single = [plan.baseline]
    out = None if plan.out is None else plan.out.with_name(f"pilot-{plan.out.name}")
    looks = (limits.DEFAULT_SEEDS,)
    return replace(
        plan, recipes=single, looks=looks, until=None, pilot=True, arms=False, ablate=False, measure_cost=False, out=out
    )


def _run(race: Race) -> list[Known]:
    plan, evidence, baseline = race.plan, race.evidence, race.baseline
    race.tune()
    assert baseline.settings is not None
    seeds = plan.seeds("target")
    if plan.regime == "budgeted" or not isinstance(plan, Plan):  # when a command measures is its own affair
        cells = [plan.runs(baseline.recipe, baseline.settings, seed) for seed in seeds]
        budgets = [plan.budget]
    else:
        budgets = _budgets(plan)
        cells = [[plan.long_run(baseline.recipe, baseline.settings, seed, budgets)] for seed in seeds]
    race.ensure("pilot", [cell for some in cells for cell in some], 0.0)
    runs = [[evidence.data(cell) for cell in some] for some in cells]
    whole = [some for some in runs if None not in some]
    return [_known(plan, budget, whole, len(seeds), evidence.sign) for budget in budgets]


def _budgets(plan: Plan) -> list[int]:
    """Return the plan's budget, and half and twice of it as far as a race over them is possible."""
    budgets = [plan.budget]
    if plan.budget // 2 >= max(limits.LEAST_STEPS, plan.task.evaluations):
        budgets.append(plan.budget // 2)
    with contextlib.suppress(SoonerError):  # its batches may not last
        check(replace(plan.task, steps=2 * plan.budget))
        budgets.append(2 * plan.budget)
    return budgets


def _known(plan: Planned, budget: int, runs: Sequence[Sequence[Any]], of: int, sign: float) -> Known:
    """Return what the runs say of one budget."""
    if plan.regime == "budgeted":
        finals = [{h: _at(some, h, sign) for h in plan.horizons} for some in runs]
        by_horizon = {h: [values[h] for values in finals] for h in plan.horizons}
        target = targets_budgeted(by_horizon, budget)[PRIMARY] if runs else None
        crossed = [
            None if target is None else horizon_to_target(plan.horizons, list(values.values()), target)[0]
            for values in finals
        ]
        ends, most = by_horizon[budget], math.log(LADDER[-1] * budget)
    else:
        measured = [set(data["steps"]) for some in runs for data in some]
        grid = sorted(evaluation_steps(budget, plan.task.evaluations) if isinstance(plan, Plan) else _common(measured))
        curves = [(grid, [_at(some, step, sign) for step in grid]) for some in runs]
        target = targets_anytime(curves, budget)[PRIMARY] if runs else None
        crossed = [None if target is None else confirmed_crossing(*curve, target) for curve in curves]
        ends, most = [values[-1] for _, values in curves], math.log(grid[-2])
    arrived = [step for step in crossed if step]
    paired = [value for value in ends if value is not None]
    per_step = [data["cpu_seconds"] / max(data["steps"][-1], 1) for some in runs for data in some]
    spread = None
    if len(arrived) >= _LEAST_HITS:
        mean, sd = spread_of_log_steps([math.log(s) for s in arrived], of - len(arrived), most)
        spread = Spread(math.sqrt(2) * sd, of - 1, 0.0, most - mean)
    return Known(
        budget,
        spread,
        len(arrived),
        of,
        math.sqrt(2) * stdlib.stdev(paired) if len(paired) >= _LEAST_HITS else None,
        stdlib.fmean(per_step) * budget if per_step else 0.0,
        f"a pilot of {of} runs of {plan.baseline}",
    )


def _common(measured: Sequence[set[int]]) -> set[int]:
    return set.intersection(*measured) if measured else set()


def _at(some: Sequence[Any], step: int, sign: float) -> float | None:
    """Return what was measured at a step, lower is better, from the run that ends there or the only one there is."""
    data = next((one for one in some if one["steps"][-1] == step), some[-1])
    if step not in data["steps"]:
        return None
    value = data["values"][data["steps"].index(step)]
    return sign * value if math.isfinite(value) else None


def from_races(plan: Planned) -> Known | None:
    """Return what finished races of the same baseline, task and budget know, of these contenders where they ran."""
    results = list(_results(plan))
    names = {str(recipe) for recipe in plan.recipes[1:]}
    rows = [
        (row, result) for result in results for row in result["contenders"] if not row["baseline"] and row["curves"]
    ]
    if any(row["recipe"] in names for row, _ in rows):
        rows = [(row, result) for row, result in rows if row["recipe"] in names]
    squares, freedom, final_squares, final_freedom = 0.0, 0, 0.0, 0
    for row, result in rows:
        base = result["contenders"][0]
        ratios = statistics.paired_log_ratios(
            row["targets"][PRIMARY]["steps"], base["targets"][PRIMARY]["steps"][: row["seeds"]]
        )
        sd = statistics.spread(ratios)
        if sd is not None:
            squares, freedom = squares + (row["seeds"] - 1) * sd**2, freedom + row["seeds"] - 1
        sd = statistics.spread(
            statistics.paired_differences(row["final"]["values"], base["final"]["values"][: row["seeds"]])
        )
        if sd is not None:
            final_squares, final_freedom = final_squares + (row["seeds"] - 1) * sd**2, final_freedom + row["seeds"] - 1
    steps = [s for result in results for s in result["contenders"][0]["targets"][PRIMARY]["steps"]]
    logs = [math.log(s) for s in steps if s]
    if freedom < _LEAST_HITS - 1 or len(logs) < _LEAST_HITS or squares == 0:
        return None
    most = math.log(LADDER[-1] * plan.budget if plan.regime == "budgeted" else plan.budget)
    mean, one = spread_of_log_steps(logs, len(steps) - len(logs), most)
    sd = math.sqrt(squares / freedom)
    shared = min(0.99, max(0.0, 1 - sd**2 / (2 * one**2))) if one > 0 else 0.0
    return Known(
        plan.budget,
        Spread(sd, freedom, shared, most - mean),
        len(logs),
        len(steps),
        math.sqrt(final_squares / final_freedom) if final_freedom else None,
        stdlib.fmean([result["pilot"] for result in results]),
        f"{len(rows)} finished comparison{'s' * (len(rows) > 1)} beside this race",
        True,
    )


def _results(plan: Planned) -> Iterator[dict[str, Any]]:
    """Yield the results of finished races of the same baseline, each with the seconds of a run in "pilot"."""
    mine = plan.identity()
    for view in views(plan.folder().parent):
        result, theirs = view.find("result", "result"), view.identity
        same = ("rules", "task", "steps", "regime", "versions", "processor", "world", "workers")
        if result is None or any(theirs.get(name) != mine.get(name) for name in same):
            continue
        if theirs["recipes"][0] == mine["recipes"][0] and _same_code(plan.baseline, theirs, mine):
            yield {**result, "pilot": _seconds(view, result)}


def _same_code(baseline: Entrant, theirs: dict[str, Any], mine: dict[str, Any]) -> bool:
    """Say whether two races mean the same by a baseline of the same name."""
    if not isinstance(baseline, Recipe):
        return bool(theirs.get("commands", [None])[0] == mine["commands"][0])
    parts = {slot.name for slot in baseline.slots}
    return all(theirs["sources"].get(name) == mine["sources"].get(name) for name in parts)


def _seconds(view: View, result: dict[str, Any]) -> float:
    """Return the processor seconds of one run to the end of the budget."""
    runs = [record.data for record in view.all("cell") if "cpu_seconds" in record.data]
    steps = sum(data["steps"][-1] for data in runs)
    return float(sum(data["cpu_seconds"] for data in runs) / max(steps, 1) * result["task"]["steps"])


def outlook(plan: Planned, known: Sequence[Known], wanted: float, effect: float | None) -> dict[str, Any]:
    """Return what effects need, as plain numbers: what `sooner race --power --json` prints (docs/result.md).

    The level is what a single contender must meet if the others show nothing: divided by their number (Holm), and by
    the number of declared looks, of which the last is counted on alone.

    Args:
        plan: the race that is thought of.
        known: what is known of luck, by budget.
        wanted: the chance with which an effect is to be found.
        effect: a ratio of steps to be told of besides the usual ones.
    """
    effects = sorted({*EFFECTS, *([effect] if effect else [])}, reverse=True)
    level = plan.alpha / max(1, len(plan.recipes) - 1)
    looking = Looking(tuple(plan.looks), level, plan.every_seed)
    return {
        "rules": limits.RULES,
        "task": plan.task.name,
        "metric": plan.task.metric,
        "recipes": [str(recipe) for recipe in plan.recipes],
        "regime": plan.regime,
        "power": wanted,
        "level": level,
        "looks": list(plan.looks),
        "until": plan.until,
        "effect": effect,
        "series": plan.series,
        "seeds_seen": any(one.seen for one in known),
        "budgets": [_budget(plan, one, wanted, effects, looking) for one in sorted(known, key=lambda k: k.steps)],
    }


def _budget(plan: Planned, known: Known, wanted: float, effects: Sequence[float], looking: Looking) -> dict[str, Any]:
    spread = known.spread
    rows = []
    for ratio in effects if spread else ():
        assert spread is not None
        seeds = seeds_for(spread, ratio, wanted, looking.level, looking.every_seed)
        mean = float(seeds) if seeds else None
        if seeds and looking.every_seed:
            every = Looking(tuple(range(limits.LEAST_SEEDS, seeds + 1)), looking.level, True)
            mean = power(spread, ratio, every)[1]
        rows.append(
            {
                "ratio": ratio,
                "seeds": seeds,
                "mean_seeds": mean,
                "cpu_minutes": None if mean is None else _minutes(plan, known, mean),
                "power_as_planned": power(spread, ratio, looking)[0],
            }
        )
    last = looking.looks[-1]
    return {
        "steps": known.steps,
        "source": known.source,
        "hits": known.hits,
        "runs": known.runs,
        "sd_log_ratio": None if spread is None else spread.sd,
        "sd_final_difference": known.final_sd,
        "effects": rows,
        "visible": None if spread is None else visible(spread, wanted, looking),
        "visible_final_difference": statistics.smallest_difference(
            known.final_sd, last, looking.level, looking.every_seed
        ),
        "cpu_minutes_as_planned": _minutes(plan, known, last),
    }


def _minutes(plan: Planned, known: Known, seeds: float) -> float:
    """Return the processor minutes of training that a race takes: tuning, targets, racing and the A/A arm."""
    lengths = [_length(plan, recipe) for recipe in plan.recipes]
    racing = seeds * (sum(lengths) + lengths[0])
    return known.cpu_seconds * ((plan.tune + 1) * len(lengths) + limits.TARGET_SEEDS * lengths[0] + racing) / 60


def _length(plan: Planned, recipe: Entrant) -> float:
    """Return how many budgets of steps a recipe trains on one seed."""
    if plan.regime == "anytime":
        return 1.0
    return (plan.horizons[-1] if recipe.horizon_free else sum(plan.horizons)) / plan.budget
