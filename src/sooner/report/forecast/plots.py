"""The plots of the answers: the fit, its residuals, what was left out, budgets, the step to a task, the runs to buy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sooner.forecast.check import Check
from sooner.forecast.decide.allocate import Allocation
from sooner.forecast.decide.plan import Plan
from sooner.forecast.fitted import Fit, Prediction
from sooner.forecast.laws.task_ladder import FittedLadder
from sooner.forecast.table import COLUMNS, FLOP_PER_PARAMETER_AND_TOKEN
from sooner.forecast.table import table as make
from sooner.report.forecast.answer import Line, Plot

MOST_RUNS = 8
"""Runs with a colour of their own."""
_POINTS = 200


def of_fit(fit: Fit) -> list[Plot]:
    """Return measured and fitted targets along the law's main column, and the residuals."""
    table = fit.table.require(fit.law.over)
    order = np.argsort(table[fit.law.over], kind="stable")
    x, y = table[fit.law.over][order], table[fit.law.target][order]
    unit = COLUMNS.get(fit.law.over, fit.law.over)
    log_x = bool(x.min() > 0) and fit.law.over != "step"
    scattered = len(fit.law.needs) > 1
    lines = [Line("measured", x, y, dots=True), Line(fit.law.name, x, fit.at(table)[order], dots=scattered)]
    relative = fit.law.link == "log"
    left = -fit.residuals() * (100 if relative else 1)
    curves = "step" in fit.law.needs and len(table.runs) <= MOST_RUNS
    groups = [(name, table.run == name) for name in table.runs] if curves else [("runs", np.ones(len(x), dtype=bool))]
    apart = [Line(name, table[fit.law.over][own], left[own], dots=True) for name, own in groups]
    title = f"{fit.law.target} above the law" + (", %" if relative else "")
    return [Plot("Fit", unit, fit.law.target, lines, log_x), Plot("Residuals", unit, title, apart, log_x)]


def of_check(check: Check) -> list[Plot]:
    """Return what was predicted of the runs left out, against what was measured."""
    order = np.argsort([one.measured for one in check.held], kind="stable")
    held = [check.held[k] for k in order]
    x, y = (np.array([getattr(one, name) for one in held]) for name in ("measured", "predicted"))
    low, high = (np.array([getattr(one, name) for one in held]) for name in ("low", "high"))
    ends = x[[0, -1]]
    lines = [Line("as measured", ends, ends), Line("predicted", x, y, dots=True)]
    if len(held) > 1:
        lines.insert(1, Line(f"{check.level:.0%} band", x, y, low, high))
    return [Plot("What was left out", "measured", "predicted", lines)]


def of_budgets(made: Sequence[Allocation], fit: Fit) -> list[Plot]:
    """Return the loss of every model size at each budget, with the best size marked."""
    lines = []
    for one in made:
        sizes = np.geomspace(one.parameters.value / 10, one.parameters.value * 10, _POINTS)
        tokens = (one.compute - 2 * sizes * one.inference_tokens) / (FLOP_PER_PARAMETER_AND_TOKEN * sizes)
        sizes, tokens = sizes[tokens > 1], tokens[tokens > 1]
        losses = fit.at(make(parameters=sizes, tokens=tokens))
        size, loss = (np.array([part.value]) for part in (one.parameters, one.loss))
        lines.append(Line(f"{one.compute:.3g} FLOP", sizes, losses))
        lines.append(Line(f"best size for {one.compute:.3g}", size, loss, dots=True))
    return [Plot("Loss at each budget", COLUMNS["parameters"], "loss", lines, True)]


def of_task(ladder: FittedLadder, losses: Prediction, made: Prediction) -> list[Plot]:
    """Return the second step of a ladder, with the predictions on it."""
    second = ladder.second
    x, y = second.table["loss"], second.table[second.law.target]
    along = np.linspace(min(x.min(), losses.value.min()), max(x.max(), losses.value.max()), _POINTS)
    lines = [
        Line("measured", x, y, dots=True),
        Line(second.law.name, along, second.at(make(loss=along))),
        Line("predicted", losses.value, made.value, dots=True),
    ]
    return [Plot("From loss to task", "loss on the task", second.law.target, lines)]


def of_plan(made: Plan) -> list[Plot]:
    """Return the band of the forecast as runs are bought; nothing where there is nothing to buy."""
    if not made.runs:
        return []
    spent = np.cumsum([0.0, *(one.cost for one in made.runs)])
    bands = np.array([made.band, *(one.band for one in made.runs)])
    goal = Line("goal", spent[[0, -1]], np.full(2, made.goal))
    return [Plot("What the runs buy", "spent", "half the band", [Line("band", spent, bands), goal])]
