"""The answer of `sooner forecast when`: the step, the chance, and what stopping or going on costs where it is wrong."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from sooner.forecast.curve import Curve
from sooner.forecast.decide.when import SURE, Choice, When
from sooner.forecast.table import Table
from sooner.report.forecast.answer import Answer, Cell, Grid, Line, Plot, tidy
from sooner.report.forecast.build import checked, checked_data, chosen, doubts

DAY, HOUR, MINUTE = 86400.0, 3600.0, 60.0


def of_when(found: When, choice: Choice | None, curve: Curve, table: Table) -> Answer:
    """Return the answer of `sooner forecast when`."""
    run = table.only(table.runs[-1:])
    p = curve.prediction
    lines = [
        Line(found.run, run["step"], run["loss"], dots=True),
        Line("forecast", curve.step, p.value, p.low, p.high),
        Line("target", np.array([run["step"].min(), found.total]), np.full(2, found.target)),
    ]
    rows: list[list[Cell]] = [["run", found.run], [f"loss now, at step {tidy(found.now)}", found.loss]]
    if not found.reached:
        rows += [
            ["chance of the target", _share(found.chance)],
            ["step, middle", _step(found, found.steps[1])],
            [f"step, {found.level:.0%} interval", f"[{_step(found, found.steps[0])}, {_step(found, found.steps[2])}]"],
            ["still to be run, on average", _steps(found, found.ahead)],
            ["going on pays where the target is worth", f"more than {_steps(found, found.pays_from)}"],
        ]
    rows += [["law", curve.law], ["schedule", curve.schedule]]
    grids = [Grid("Forecast", ("", ""), rows)]
    if choice is not None and not found.reached:
        costs: list[list[Cell]] = [
            ["go on", _steps(found, choice.regret_going)],
            ["stop now", _steps(found, choice.regret_stopping)],
        ]
        title = f"What each loses on average against knowing the outcome, worth {_steps(found, choice.worth)}"
        grids.append(Grid(title, ("choice", "expected loss"), costs))
    return Answer(
        f"When does {found.run} reach {tidy(found.target)}?",
        _headline(found, choice),
        [*grids, *checked(curve.check)],
        [Plot("Loss", "step", "loss", lines), _chances(found)],
        doubts(curve.warnings, curve.check),
        (*table.notes, *chosen(curve.errors, curve.law)),
        {
            **{name: value for name, value in asdict(found).items() if name not in ("step", "by")},
            "pays_from": found.pays_from,
            "choice": None if choice is None else asdict(choice),
            "by": [{"step": s, "chance": c} for s, c in zip(found.step.tolist(), found.by.tolist(), strict=True)],
            **checked_data(curve.check),
        },
    )


def _headline(found: When, choice: Choice | None) -> str:
    target = tidy(found.target)
    if found.reached:
        return f"{found.run} is at {target} already: {tidy(found.loss)} at step {tidy(found.now)}"
    end = tidy(found.total)
    if found.steps[1] <= found.total:
        said = f"{target} at step {_step(found, found.steps[1])}, "
        said += f"{found.level:.0%} between {_step(found, found.steps[0])} and {_step(found, found.steps[2])}"
        said += f"; by step {end} with a chance of {_share(found.chance)}"
    else:
        said = f"{target} is reached by step {end} with a chance of {_share(found.chance)} only"
    if choice is not None:
        said += f": {'go on' if choice.go else 'stop'}"
    return said


def _chances(found: When) -> Plot:
    """Return the probability that the target is reached by a step."""
    return Plot("Target reached by", "step", "probability", [Line("chance", found.step, found.by)])


def _share(chance: float) -> str:
    """Return a probability as text; one that a band can't tell from 0 or 1 is not said as such."""
    if SURE < chance < 1 - SURE:
        return f"{100 * chance:.3g} %"
    return f"below {100 * SURE:g} %" if chance <= SURE else f"above {100 * (1 - SURE):g} %"


def _step(found: When, step: float) -> str:
    """Return a step as text, with the time until then."""
    if not np.isfinite(step):
        return f"later than {tidy(found.total)}"
    return tidy(step) + (f" (in {took})" if (took := _time(found, step - found.now)) else "")


def _steps(found: When, steps: float) -> str:
    """Return a number of steps as text, with the time they take."""
    return f"{tidy(steps)} steps" + (f" ({took})" if (took := _time(found, steps)) else "")


def _time(found: When, steps: float) -> str:
    """Return how long so many steps take, as text; nothing where the pace is not known."""
    if found.seconds_per_step is None or steps <= 0:
        return ""
    seconds = steps * found.seconds_per_step
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"
