"""The rest of a run that has begun, or the whole of one under another schedule."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.automatic import of_curves
from sooner.forecast.bands.run import of_run
from sooner.forecast.blend import blend
from sooner.forecast.check import Check, check
from sooner.forecast.course import go_on
from sooner.forecast.decay import with_prior
from sooner.forecast.fit import fit
from sooner.forecast.fitted import LEVEL, Prediction
from sooner.forecast.law import Law
from sooner.forecast.nearest_runs import nearest_runs
from sooner.forecast.schedules import Schedule
from sooner.forecast.table import FloatArray, Table
from sooner.forecast.table import table as make
from sooner.forecast.transient import without_transient

POINTS = 200
_LEAST = 3
"""A run with fewer steps is no curve."""
STEEPER = 1.2
"""By this factor a curve must fall faster in its last third than in its middle to look like a decay."""
ALIKE = 0.01
"""A run whose learning rates are within this share of its peak of a schedule's is a run under that schedule."""


@dataclass(frozen=True)
class Curve:
    """A loss curve that was not measured.

    Args:
        law: name of the law.
        schedule: in words.
        step: (n,) steps.
        lr: (n,) learning rates, NaN where they are not known.
        prediction: (n,) losses with bands.
        check: what leaving out showed, None where nothing could be left out.
        errors: left-out error of every law that was tried, relative.
        warnings: why to doubt it.
        run: the run that goes on, empty where the curve is one of another schedule.
    """

    law: str
    schedule: str
    step: FloatArray
    lr: FloatArray
    prediction: Prediction
    check: Check | None
    errors: dict[str, float]
    warnings: list[str]
    run: str = ""

    @property
    def final(self) -> tuple[float, float, float]:
        """The last loss, and the ends of its band."""
        p = self.prediction
        return float(p.value[-1]), float(p.low[-1]), float(p.high[-1])

    def step_to(self, target: float) -> float | None:
        """Return the first step at which the predicted loss is at or below `target`, None where it never is."""
        below = np.flatnonzero(self.prediction.value <= target)
        return float(self.step[below[0]]) if below.size else None


def forecast_curve(
    table: Table,
    *,
    schedule: Schedule | None = None,
    total: float | None = None,
    law: Law | None = None,
    level: float = LEVEL,
    draws: int = 200,
    seed: int = 0,
) -> Curve:
    """Forecast a loss curve from measured ones.

    Args:
        table: curves: step, loss and, if there is one, lr.
        schedule: of the run to forecast; where the last run of the table follows it so far, that run goes on. Left out:
            the last run goes on, its learning rate as it stands.
        total: last step of the forecast; by default that of the schedule, or twice the last run's.
        law: the law; left out, those for such curves are averaged by what leaving out shows.
        level: of the bands.
        draws: refits for the bands.
        seed: of the resampling.

    Raises:
        SoonerError: no steps, a schedule without learning rates in the table, or nothing left to forecast.
    """
    table = table.require("step", "loss")
    table = table.where(table["step"] > 0)
    if schedule is not None and "lr" not in table:
        raise SoonerError("another schedule needs the learning rates of the fitted runs; say them with --lr KIND:...")
    table, noted = _fitted(table)
    errors: dict[str, float] = {}
    if law is None:
        laws = of_curves(table)
        law = laws[0]
        if len(laws) > 1:
            law, errors = blend(laws, table, seed=seed)
    run = table.only(table.runs[-1:])
    at, words, own = _ahead(run, schedule, total)
    law, told = with_prior(law, table, at)
    table = without_transient(law, table)
    run = table.only(table.runs[-1:])
    fitted = fit(law, table, draws=draws, seed=seed)
    try:
        shown = check(law, table, level=level, draws=draws, seed=seed)
    except SoonerError:
        shown = None
    if own:
        fitted = replace(fitted, scores=of_run(law, table, run))
    predicted = fitted.predict(at, level)
    if own:
        predicted, more = go_on(fitted, run, at, predicted)
        told += more
    warnings = list(dict.fromkeys((*_decay(table), *noted, *told, *predicted.warnings)))
    rates = at["lr"] if "lr" in at else np.full(len(at), np.nan)
    goes_on = run.runs[0] if own else ""
    return Curve(law.name, words, at["step"], rates, predicted, shown, errors, warnings, goes_on)


def _fitted(table: Table) -> tuple[Table, list[str]]:
    """Return the runs that a law is fitted to, the one that goes on last, and what to say of the others.

    Raises:
        SoonerError: the run has too few steps.
    """
    name, count = table.runs[-1], len(table.runs)
    run = table.only([name])
    if len(np.unique(run["step"])) < _LEAST:
        raise SoonerError(
            f"{name} has losses at fewer than {_LEAST} steps, which make no curve; log more, name another run with "
            "--run NAME, or use sooner forecast fit for final losses"
        )
    if count == 1:
        return table, []
    if "lr" not in table:
        # no law says what runs of unknown rates, sizes and data share, and each is fitted to its own
        return run, [
            f"{name}, one of {count} runs, goes on (--run NAME for another), and the law is fitted to it alone"
        ]
    few = nearest_runs(table)
    return few, [note for note in few.notes if note not in table.notes]


def _ahead(last: Table, schedule: Schedule | None, total: float | None) -> tuple[Table, str, bool]:
    """Return where to ask the law, in words, and whether it is the last run that goes on."""
    reached = float(last["step"].max())
    if schedule is not None:
        end = total or schedule.total
        own = end > reached and _is_under(last, schedule)
        steps = np.unique(np.round(np.linspace(max(schedule.warmup, 1.0), end, POINTS)))
        name = last.runs[0] if own else "forecast"
        return make(name, step=steps, lr=schedule.lr(steps)), str(schedule), own
    end = total or 2 * reached
    if end <= reached:
        raise SoonerError(
            f"the run has reached step {reached:g} already, so nothing is left until {end:g}; give a later --total"
        )
    ahead = np.linspace(reached, end, POINTS)
    if (last["step"] % 1 == 0).all():  # not of an axis in fractions of epochs
        ahead = np.unique(np.round(ahead))
    ahead = ahead[ahead > reached]
    if "lr" not in last:
        return make(last.runs[0], step=ahead), "the run goes on", True
    rate = np.full(len(ahead), last["lr"][int(np.argmax(last["step"]))])
    steps = np.concatenate([last["step"], ahead])
    order = np.argsort(steps, kind="stable")
    rates = np.concatenate([last["lr"], rate])
    return make(last.runs[0], step=steps[order], lr=rates[order]), "the learning rate stays as it is", True


def _is_under(run: Table, schedule: Schedule) -> bool:
    return bool((np.abs(run["lr"] - schedule.lr(run["step"])) <= ALIKE * schedule.peak).all())


def _slope(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Return the slope of a straight line, and its standard error."""
    slope, offset = np.polyfit(x, y, 1)
    residual = y - slope * x - offset
    spread = float(((x - x.mean()) ** 2).sum())
    return float(slope), float(np.sqrt((residual**2).sum() / max(len(x) - 2, 1) / spread))


def _decay(table: Table) -> list[str]:
    """Return a warning where a curve bends down at its end, as in a decay, and no learning rate is known."""
    if "lr" in table:
        return []
    for name, run in table.each_run():
        if len(run) < 12:
            continue
        x, y = np.log(run["step"]), np.log(run["loss"])
        third = len(x) // 3
        middle, end = (_slope(x[s], y[s]) for s in (slice(third, 2 * third), slice(2 * third, None)))
        # a power law, with or without a floor, only flattens in these coordinates
        if end[0] < STEEPER * middle[0] < 0 and middle[0] - end[0] > 3 * np.hypot(middle[1], end[1]):
            return [
                f"the loss of {name} falls faster at its end, as under a decaying learning rate, and none is known: a "
                "law in steps alone does not hold; say the schedule with --lr KIND:peak=...,total=..."
            ]
    return []
