"""From fits, predictions and checks to answers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from sooner.forecast.bands.usual import SUPPORTED
from sooner.forecast.check import Check
from sooner.forecast.curve import Curve
from sooner.forecast.fitted import FAINT, Fit, Prediction, reach
from sooner.forecast.table import Table
from sooner.report.forecast import plots
from sooner.report.forecast.answer import Answer, Cell, Grid, Line, Plot


def objective(fit: Fit) -> str:
    """Return the objective of a fit in words."""
    of = f"log {fit.law.target}" if fit.law.link == "log" else fit.law.target
    how = f"Huber loss (delta {fit.law.delta:g})" if np.isfinite(fit.law.delta) else "half the squares"
    return f"sum over {len(fit.table)} rows of the {how} of the residual of {of}"


def percent(share: float | None) -> str | None:
    """Return a share as text, such as "1.2 %"."""
    return None if share is None or not np.isfinite(share) else f"{100 * share:.3g} %"


def parameters(fit: Fit) -> Grid:
    """Return the parameters with their intervals."""
    rows: list[list[Cell]] = [[one.name, one.value, one.low, one.high, one.unit] for one in fit.estimates()]
    title = f"{fit.law.name}: {fit.law.formula} ({fit.law.source}); 90 % intervals by {fit.how}"
    return Grid(title, ("parameter", "value", "low", "high", "unit"), rows)


def about(fit: Fit) -> dict[str, Any]:
    """Return a fit as JSON holds it."""
    return {
        "law": fit.law.name,
        "formula": fit.law.formula,
        "source": fit.law.source,
        "objective": {"name": objective(fit), "value": fit.objective, "starts": len(fit.ends)},
        "parameters": [asdict(one) for one in fit.estimates()],
        "intervals": fit.how,
    }


def checked(check: Check | None) -> list[Grid]:
    """Return what leaving out showed, beside the two baselines."""
    if check is None:
        return []
    rows = [
        [
            one.run,
            one.measured,
            one.predicted,
            f"[{one.low:.4g}, {one.high:.4g}]",
            percent(one.error),
            percent(one.last_value),
            percent(one.power_floor),
            percent(one.covered),
        ]
        for one in check.held[:20]
    ]
    mean = ["mean", None, None, None, percent(check.error), percent(check.last_value), percent(check.power_floor)]
    heads = ("left out", "measured", "law", f"{check.level:.0%} band", "error", "last value", "power + floor")
    more = f", the first 20 of {len(check.held)} shown" if len(check.held) > 20 else ""
    title = f"Fitted without {check.left_out} and compared with it{more}"
    return [Grid(title, (*heads, "covered"), [*rows, [*mean, percent(check.coverage)]])]


def checked_data(check: Check | None) -> dict[str, Any]:
    """Return a check as JSON holds it."""
    if check is None:
        return {}
    means = {
        "error": check.error,
        "last_value": check.last_value,
        "power_floor": check.power_floor,
        "coverage": check.coverage,
    }
    return {"check": {**asdict(check), "mean": means}}


def chosen(errors: dict[str, float], law: str | None = None) -> list[str]:
    """Return how a law was chosen, or how laws were averaged where none of them alone is the `law`, in a sentence."""
    if len(errors) < 2:
        return []
    listed = ", ".join(f"{name} {100 * error:.3g} %" for name, error in sorted(errors.items(), key=lambda x: x[1]))
    how = "the law was chosen" if law is None or law in errors else "the laws were averaged"
    return [f"{how} by what leaving out showed (mean error): {listed}"]


def of_fit(fit: Fit, check: Check | None, errors: dict[str, float]) -> Answer:
    """Return the answer of `sooner forecast fit`."""
    count = len(fit.table.runs)
    headline = f"{fit.law.name} on {len(fit.table)} rows of {count} run{'s' * (count != 1)}"
    if check is not None:
        headline += f": {100 * check.error:.3g} % mean error without {check.left_out}, {check.coverage:.0%} covered"
    notes = (*fit.table.notes, f"objective: {objective(fit)} = {fit.objective:.6g}", *chosen(errors))
    return Answer(
        f"What do the runs say of the {fit.law.title}?",
        headline,
        [parameters(fit), *checked(check)],
        plots.of_fit(fit),
        doubts(fit.warnings, check),
        notes,
        {**about(fit), **checked_data(check)},
    )


def beyond(what: str, times: float, between: str) -> str:
    """Return a headline for a place so far away that no back-test supports a value."""
    return (
        f"{what} is {times:,.0f} times beyond the largest fitted, and forecasts were tested to {SUPPORTED:g} "
        f"times: no value can be told, only a range, {between}"
    )


def of_prediction(
    fit: Fit, at: Table, made: Prediction, check: Check | None, errors: dict[str, float], baseline: Prediction | None
) -> Answer:
    """Return the answer of `sooner forecast predict`."""
    names = [name for name in at.columns if name in fit.law.needs]
    last = fit.table.furthest(fit.law.over, fit.law.target)
    rows = [
        [
            *(float(at[name][k]) for name in names),
            float(made.value[k]),
            f"[{made.low[k]:.4g}, {made.high[k]:.4g}]",
            last,
            None if baseline is None else float(baseline.value[k]),
        ]
        for k in range(len(at))
    ]
    heads = (*names, fit.law.target, f"{made.level:.0%} band", "last value", "power + floor")
    spread = (made.high[0] - made.low[0]) / 2
    where = ", ".join(f"{name} {at[name][0]:.4g}" for name in names)
    headline = f"{fit.law.target} {made.value[0]:.4g} ± {spread:.2g} at {where} ({fit.law.name})"
    times = float(reach(fit, at)[0][0])
    if times > SUPPORTED:
        headline = beyond(f"{fit.law.target} at {where}", times, f"between {made.low[0]:.2g} and {made.high[0]:.2g}")
    return Answer(
        f"What is the {fit.law.target} at {where}?",
        headline,
        [Grid("Predictions", heads, rows), parameters(fit), *checked(check)],
        plots.of_fit(fit),
        doubts(made.warnings, check),
        (*fit.table.notes, f"objective: {objective(fit)} = {fit.objective:.6g}", *chosen(errors)),
        {
            **about(fit),
            "predictions": [
                {
                    **{name: float(at[name][k]) for name in names},
                    "value": float(made.value[k]),
                    "low": float(made.low[k]),
                    "high": float(made.high[k]),
                    "last_value": last,
                    "power_floor": None if baseline is None else float(baseline.value[k]),
                }
                for k in range(len(at))
            ],
            "level": made.level,
            **checked_data(check),
        },
    )


def of_curve(curve: Curve, table: Table, target: float | None) -> Answer:
    """Return the answer of `sooner forecast curve`."""
    value, low, high = curve.final
    of = f" of {curve.run}" if curve.run and len(table.runs) > 1 else ""
    headline = f"final loss{of} {value:.4g} ± {(high - low) / 2:.2g} at {table.axis} {curve.step[-1]:g}"
    begun = float((table.only([curve.run]) if curve.run else table)["step"].max())
    if (times := float(curve.step[-1]) / begun) > SUPPORTED:
        between = f"between {low:.2g} and {high:.2g}"
        headline = beyond(f"the final loss{of} at {table.axis} {curve.step[-1]:g}", times, between)
    reached = None if target is None else curve.step_to(target)
    if target is not None:
        headline += f", {target:g} at {table.axis} {reached:g}" if reached else f", {target:g} is not reached"
    shown = list(table.each_run())[: plots.MOST_RUNS]
    lines = [Line(name, run["step"], run["loss"], dots=True) for name, run in shown]
    p = curve.prediction
    lines.append(Line("forecast", curve.step, p.value, p.low, p.high))
    drawn = [Plot("Loss", table.axis, "loss", lines)]
    if np.isfinite(curve.lr).all():
        rates = [
            Line(name, run["step"], run["lr"]) for name, run in list(table.each_run())[: plots.MOST_RUNS] if "lr" in run
        ]
        drawn.append(
            Plot("Learning rate", table.axis, "learning rate", [*rates, Line("forecast", curve.step, curve.lr)])
        )
    last = table.only(table.runs[-1:]).furthest("step", "loss")
    rows: list[list[Cell]] = [["law", curve.law], ["schedule", curve.schedule], ["last measured loss", last]]
    return Answer(
        "How does the loss go on?",
        headline,
        [Grid("Forecast", ("", ""), rows), *checked(curve.check)],
        drawn,
        doubts(curve.warnings, curve.check),
        (*table.notes, *chosen(curve.errors, curve.law)),
        {
            "law": curve.law,
            "schedule": curve.schedule,
            "final": {"value": value, "low": low, "high": high, "level": p.level},
            "target": None if target is None else {"loss": target, "step": reached},
            "curve": [
                {"step": s, "loss": v, "low": a, "high": b}
                for s, v, a, b in zip(*(c.tolist() for c in (curve.step, p.value, p.low, p.high)), strict=True)
            ],
            **checked_data(curve.check),
        },
    )


def of_check(check: Check, errors: dict[str, float], notes: tuple[str, ...]) -> Answer:
    """Return the answer of `sooner forecast check`."""
    others = f"last value {percent(check.last_value)}, power + floor {percent(check.power_floor) or '-'}"
    return Answer(
        f"How far is {check.law} off without {check.left_out}?",
        f"{check.law}: {percent(check.error)} mean error, {check.coverage:.0%} of rows in their "
        f"{check.level:.0%} bands ({others})",
        checked(check),
        plots.of_check(check),
        check.warnings,
        (*notes, *chosen(errors)),
        checked_data(check),
    )


def doubts(warnings: tuple[str, ...] | list[str], check: Check | None) -> list[str]:
    """Return the doubts, and one more where a baseline does better than the law by more than seeds differ.

    That the last value does better comes first: it makes the answer one to rely on or not.
    """
    told = list(warnings)
    if check is not None and check.error > check.last_value + FAINT:
        told.insert(
            0,
            f"without {check.left_out} the law was off by {100 * check.error:.3g} %, repeating the last value by "
            f"{100 * check.last_value:.3g} %: do not rely on it here",
        )
    elif check is not None and check.power_floor is not None and check.error > check.power_floor + FAINT:
        told.append(
            f"without {check.left_out} the law was off by {100 * check.error:.3g} %, a plain power law with a floor by "
            f"{100 * check.power_floor:.3g} %: compare what both say"
        )
    return list(dict.fromkeys(told))
