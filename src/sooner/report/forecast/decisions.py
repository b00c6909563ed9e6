"""From allocations, schedules, comparisons, ladders and plans to answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from sooner.forecast.bands.usual import SUPPORTED
from sooner.forecast.decide.allocate import Allocation, Range
from sooner.forecast.decide.best_schedule import ScheduleChoice
from sooner.forecast.decide.compare import Comparison
from sooner.forecast.decide.isoflop import IsoFlop
from sooner.forecast.decide.optimal_hyperparameters import StepLaw
from sooner.forecast.decide.plan import Plan
from sooner.forecast.fitted import Fit, Prediction, reach
from sooner.forecast.laws.task_ladder import FittedLadder
from sooner.forecast.table import Table
from sooner.report.forecast import plots
from sooner.report.forecast.answer import Answer, Cell, Grid, Line, Plot, tidy
from sooner.report.forecast.build import about, beyond, chosen, objective, parameters


def band(one: Range) -> str:
    """Return a band as text."""
    return f"[{one.low:.3g}, {one.high:.3g}]"


OPEN = 100.0
"""A split whose interval spans this factor is no answer."""
DISAGREE = 2.0
"""From this factor on the law and the parabolas disagree on the best size."""


def of_allocations(
    made: Sequence[Allocation],
    fit: Fit,
    rules: StepLaw,
    told: Sequence[str],
    errors: dict[str, float],
    parabolas: IsoFlop | None = None,
) -> Answer:
    """Return the answer of `sooner forecast allocate`; the best size by parabolas at equal compute stands beside it."""
    columns: list[list[Cell]] = []
    data, warnings = [], [*dict.fromkeys(w for one in made for w in one.warnings)]
    for one in made:
        lr, batch, doubts = rules.at(one.parameters.value, one.tokens.value)
        if doubts:
            warnings.append(f"learning rate and batch for {one.compute:.3g} FLOP: {', and '.join(doubts)}")
        columns.append(
            [
                f"{one.parameters.value:.3g} {band(one.parameters)}",
                f"{one.tokens.value:.3g} {band(one.tokens)}",
                f"{one.tokens_per_parameter:.3g}",
                f"{one.loss.value:.4g} {band(one.loss)}",
                f"{lr[0]:.3g}",
                f"{batch[0]:.3g}",
            ]
        )
        data.append({**asdict(one), "lr": lr, "batch": batch})
    unit = "tokens" if len(rules.batch.draws) == 1 else "in the files' unit"  # a rule fitted to them is in theirs
    names = ("parameters", "tokens", "tokens per parameter", "loss", "learning rate", f"batch ({unit})")
    rows: list[list[Cell]] = [[name, *(column[k] for column in columns)] for k, name in enumerate(names)]
    if parabolas is not None:
        sizes = [parabolas.parameters(one.compute) for one in made]
        rows.insert(1, ["parameters by parabolas", *(f"{size:.3g}" for size in sizes)])
        for one, size, entry in zip(made, sizes, data, strict=True):
            entry["parameters_by_parabolas"] = size
            times = max(size / one.parameters.value, one.parameters.value / size)
            if times > DISAGREE and not one.inference_tokens:
                warnings.append(
                    f"at {one.compute:.3g} FLOP parabolas at equal compute put the best size at {size:.3g}, "
                    f"{times:.2g} times apart from the law's {one.parameters.value:.3g}: trust neither before one run "
                    "between them"
                )
    heads = ("", *(f"{one.compute:.3g} FLOP" for one in made))
    first = made[0]
    headline = (
        f"{first.parameters.value:.3g} parameters on {first.tokens.value:.3g} tokens "
        f"({first.tokens_per_parameter:.3g} per parameter): loss {first.loss.value:.4g} {band(first.loss)}"
    )
    if first.parameters.high > OPEN * first.parameters.low:
        headline = (
            f"these runs do not say how to split {first.compute:.3g} FLOP: the best size lies anywhere in "
            f"{band(first.parameters)} parameters; add runs of other sizes at equal compute"
        )
    times = first.compute / float(fit.table.require("compute")["compute"].max())
    if times > SUPPORTED:
        split, loss = first.parameters, first.loss
        between = f"{split.low:.1g} to {split.high:.1g} parameters and a loss from {loss.low:.2g} to {loss.high:.2g}"
        headline = beyond(f"a budget of {first.compute:.3g} FLOP", times, between)
    return Answer(
        f"How to spend {first.compute:.3g} FLOP?",
        headline,
        [
            Grid(f"Best split, with {first.level:.0%} bands", heads, rows),
            parameters(fit),
        ],
        plots.of_budgets(made, fit),
        list(dict.fromkeys(warnings)),
        (*fit.table.notes, *told, f"objective: {objective(fit)} = {fit.objective:.6g}", *chosen(errors)),
        {**about(fit), "allocations": data},
    )


def of_schedules(made: ScheduleChoice, fit: Fit, errors: dict[str, float]) -> Answer:
    """Return the answer of `sooner forecast schedule`."""
    best = made.candidates[0]
    rows: list[list[Cell]] = [
        [one.schedule, one.loss, one.gain, f"[{one.low:.3g}, {one.high:.3g}]"] for one in made.candidates[:10]
    ]
    curve = [{"step": s, "lr": v} for s, v in zip(made.step.tolist(), made.lr.tolist(), strict=True)]
    return Answer(
        f"Which schedule over {made.step[-1]:g} steps?",
        f"{best.schedule}: loss {best.loss:.4g}, {best.gain:.3g} [{best.low:.3g}, {best.high:.3g}] below cosine to a "
        "tenth",
        [Grid("Schedules", ("schedule", "loss", "gain over cosine", f"{made.level:.0%} band"), rows), parameters(fit)],
        [Plot("The free schedule", "step", "learning rate", [Line("free", made.step, made.lr)])],
        made.warnings,
        (*fit.table.notes, f"objective: {objective(fit)} = {fit.objective:.6g}", *chosen(errors)),
        {**about(fit), "schedules": [asdict(one) for one in made.candidates], "free": curve},
    )


def of_task(ladder: FittedLadder, at: Table, made: Prediction, losses: Prediction) -> Answer:
    """Return the answer of `sooner forecast task`."""
    target = ladder.second.law.target
    names = ladder.first.law.needs
    rows: list[list[Cell]] = [
        [
            *(float(at[name][k]) for name in names),
            float(losses.value[k]),
            float(made.value[k]),
            f"[{made.low[k]:.3g}, {made.high[k]:.3g}]",
        ]
        for k in range(len(at))
    ]
    last = float(ladder.second.table[target][np.argmin(ladder.second.table["loss"])])
    measured = f"{target} at the lowest loss measured: {last:.4g}"
    data = [
        {"at": {name: float(at[name][k]) for name in names}, target: float(made.value[k])}
        | {"low": float(made.low[k]), "high": float(made.high[k]), "loss": float(losses.value[k])}
        for k in range(len(at))
    ]
    headline = (
        f"{target} {made.value[0]:.3g} [{made.low[0]:.3g}, {made.high[0]:.3g}], by way of a task loss of "
        f"{losses.value[0]:.4g}"
    )
    if (times := float(reach(ladder.first, at)[0][0])) > SUPPORTED:
        between = f"between {made.low[0]:.2g} and {made.high[0]:.2g}"
        headline = beyond(f"the {target} at {names[0]} {at[names[0]][0]:.4g}", times, between)
    return Answer(
        f"What is the {target} of a larger model?",
        headline,
        [
            Grid("Predictions", (*names, "loss", target, f"{made.level:.0%} band"), rows),
            parameters(ladder.first),
            parameters(ladder.second),
        ],
        plots.of_task(ladder, losses, made),
        made.warnings,
        tuple(dict.fromkeys((*ladder.first.table.notes, *ladder.second.table.notes, measured))),
        {"first": about(ladder.first), "second": about(ladder.second), "predictions": data},
    )


def of_comparison(made: Comparison, names: tuple[str, str], tables: tuple[Table, Table]) -> Answer:
    """Return the answer of `sooner forecast compare`."""
    cross = made.crossing
    end, sure = made.at[-1], made.first_better[-1]
    winner = names[0] if made.difference[-1] > 0 else names[1]
    share = sure if winner == names[0] else 1 - sure
    if cross.value is None:
        where = f"they do not cross up to {tidy(end, 3)} ({cross.share:.0%} of the draws do)"
    else:
        interval = "" if cross.low is None or cross.high is None else f" [{tidy(cross.low, 3)}, {tidy(cross.high, 3)}]"
        where = f"they cross at {made.over} {tidy(cross.value, 3)}{interval} ({cross.share:.0%} of the draws cross)"
    picks = np.unique(np.linspace(0, len(made.at) - 1, 8).astype(int))
    rows: list[list[Cell]] = [
        [
            float(made.at[k]),
            float(made.first[k]),
            float(made.second[k]),
            float(made.difference[k]),
            f"[{made.low[k]:.3g}, {made.high[k]:.3g}]",
            f"{made.first_better[k]:.0%}",
        ]
        for k in picks
    ]
    heads = (made.over, *names, "difference", f"{made.level:.0%} band", f"{names[0]} better")
    lines = [
        *(Line(f"{n}, measured", t[made.over], t["loss"], dots=True) for n, t in zip(names, tables, strict=True)),
        Line(names[0], made.at, made.first),
        Line(names[1], made.at, made.second),
    ]
    gap = Line("difference", made.at, made.difference, made.low, made.high)
    return Answer(
        f"{names[0]} or {names[1]}?",
        f"at {made.over} {tidy(end, 3)} {winner} is better in {share:.0%} of the draws; {where}",
        [Grid("Along the scale", heads, rows)],
        [
            Plot("Both procedures", made.over, "loss", lines, True),
            Plot(f"Loss of {names[1]} minus {names[0]}", made.over, "difference", [gap], True),
        ],
        made.warnings,
        tuple(dict.fromkeys((*tables[0].notes, *tables[1].notes))),
        {
            "crossing": asdict(cross),
            "along": [
                {made.over: float(made.at[k]), "difference": float(made.difference[k])}
                | {"low": float(made.low[k]), "high": float(made.high[k]), "first_better": float(made.first_better[k])}
                for k in range(len(made.at))
            ],
        },
    )


def of_plan(made: Plan, fit: Fit, where: str, errors: dict[str, float]) -> Answer:
    """Return the answer of `sooner forecast plan`."""
    names = [name for name in fit.law.needs if all(name in one.at for one in made.runs)]
    rows: list[list[Cell]] = [[*(one.at[name] for name in names), one.cost, one.band] for one in made.runs]
    relative = " (relative)" if fit.law.link == "log" else ""
    final = made.runs[-1].band if made.runs else made.band
    verdict = f"narrow it to ± {final:.3g}" if made.reached else f"narrow it only to ± {final:.3g}, the goal is missed"
    count = f"{len(made.runs)} run{'s' * (len(made.runs) != 1)}"
    warnings = list(fit.warnings)
    if made.share_of_noise > 0.5:
        warnings.append(
            f"{made.share_of_noise:.0%} of the variance there is the deviation of a single run from the law, which no "
            "number of runs narrows"
        )
    return Answer(
        f"Which runs next, for {where}?",
        f"the law is known to ± {made.band:.3g}{relative} at {where}; {count} for {made.cost:.3g} {verdict}",
        [Grid("Runs to buy, in this order", (*names, "cost", f"band after it{relative}"), rows), parameters(fit)],
        plots.of_plan(made),
        warnings,
        (*fit.table.notes, *chosen(errors)),
        {**about(fit), "plan": asdict(made)},
    )
