"""How a run goes on from where it stands, which need not be where its law puts it.

Three cases, decided by what is known of the run alone:

- the learning rate is zero from here on: the weights stand still, and the loss stays at its mean since;
- no learning rate is known, and a law fitted on the first three quarters of the steps misses the last quarter by more
  than repeating the last value does: the last value stands;
- otherwise the run keeps its distance to the law. The distance is the mean over its last rows, less what is chance:
  d (1 - e^2 / d^2)+ with e its standard error, the positive part of James and Stein (1961).
"""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.fit import fit
from sooner.forecast.fitted import Fit, Prediction
from sooner.forecast.table import FloatArray, Table

FAINT = 2e-4
"""A change of the loss by this fraction is nothing."""
SLIGHT = 2e-3
"""A law that is off by less than this fraction at the end of a run still holds."""
KEPT = 0.75
"""Share of the steps on which the law is fitted again, to see whether it would have known the rest."""
LEAST = 12
"""A run with fewer rows says too little of its end."""


def go_on(fitted: Fit, run: Table, at: Table, predicted: Prediction) -> tuple[Prediction, list[str]]:
    """Return the prediction from the end of a run on, and what to say about it.

    Args:
        fitted: the law.
        run: rows of the run, all of them among the fitted ones.
        at: where the law was asked; rows up to the end of the run stay as they are.
        predicted: what it said.
    """
    run = run.where(np.argsort(run["step"], kind="stable"))
    later = at["step"] > run["step"][-1]
    since = _standing(run, at, later)
    if since is not None:
        still = run.where(run["step"] >= since)
        told = (
            f"the learning rate is 0 from step {since:g} on: the loss of {run.runs[0]} no longer moves; its forecast, "
            f"the mean of the last {len(still)} losses, is no better than the last value but for noise"
        )
        return _level(predicted, later, np.log(still["loss"])), [told]
    measured = np.log(run["loss"])
    count = max(3, len(run) // 10)
    distance = (np.log(fitted.at(run)) - measured)[-count:]
    away, scatter = float(distance.mean()), float(np.std(np.diff(measured[-count:])))
    known_lr = "lr" in run
    if not known_lr and len(run) >= LEAST and _last_is_better(fitted, run):
        end = measured[-count:] if np.ptp(measured[-count:]) < FAINT else measured[-1:]
        told_end = _words(run, measured, away, scatter)
        value = f"the last value, {run['loss'][-1]:.4g}, is the safer forecast, and the one given"
        missed = "a law fitted on its first three quarters missed the last by more than standing still"
        return _level(predicted, later, end), [f"{told_end or missed}: {value}"]
    if len(run) < LEAST:
        return predicted, []
    error = scatter / np.sqrt(2 * count)  # a difference of two rows has twice the variance of one
    kept = away * max(0.0, 1 - (error / away) ** 2) if away else 0.0
    factor = np.where(later, np.exp(-kept), 1.0)
    moved = replace(predicted, value=predicted.value * factor, low=predicted.low * factor, high=predicted.high * factor)
    told_end = _words(run, measured, away, scatter)
    return moved, [f"{told_end}: the forecast keeps that distance"] if told_end else []


def _standing(run: Table, at: Table, later: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float | None:
    """Return the step from which the learning rate is zero in the run and ahead of it; None where it is not."""
    if "lr" not in run or run["lr"][-1] > 0 or (at["lr"][later] > 0).any():
        return None
    moving = np.flatnonzero(run["lr"] > 0)
    return float(run["step"][moving[-1] + 1]) if moving.size else None


def _level(predicted: Prediction, later: np.ndarray[tuple[int], np.dtype[np.bool_]], logs: FloatArray) -> Prediction:
    """Return the prediction with the mean of these losses in later rows; its band holds their scatter.

    Of a single loss the scatter is unknown, and the band keeps the law's width, on the side where the law is wider.
    """
    value = float(np.exp(logs.mean()))
    if len(logs) > 1:
        reach = NormalDist().inv_cdf((1 + predicted.level) / 2) * float(np.std(logs, ddof=1))
        below = above = np.full(len(later), np.exp(reach * np.sqrt(1 + 1 / len(logs))))
    else:
        below, above = predicted.value / predicted.low, predicted.high / predicted.value
        below = above = np.maximum(below, above)
    return replace(
        predicted,
        value=np.where(later, value, predicted.value),
        low=np.where(later, value / below, predicted.low),
        high=np.where(later, value * above, predicted.high),
    )


def _last_is_better(fitted: Fit, run: Table) -> bool:
    """Return whether the last value would have said the last quarter of the run's steps better than the law."""
    border = KEPT * float(run["step"][-1])
    mine = fitted.table.run == run.runs[0]
    kept = fitted.table.where(~mine | (fitted.table["step"] <= border))
    first, rest = run.where(run["step"] <= border), run.where(run["step"] > border)
    if not len(first) or not len(rest):
        return False
    try:
        again = fit(fitted.law, kept, draws=2).at(rest)
    except SoonerError:
        return False
    truth = np.log(rest["loss"])
    of_law = float(np.mean(np.abs(np.log(again) - truth)))
    return of_law > float(np.mean(np.abs(np.log(first["loss"][-1]) - truth)))


def _words(run: Table, measured: FloatArray, away: float, scatter: float) -> str:
    """Return how a run ends away from its law, farther than its own scatter explains; nothing where it does not."""
    if len(run) < LEAST or abs(away) < 3 * (scatter + FAINT) or abs(away) < SLIGHT:
        return ""
    count = max(3, len(run) // 10)
    moving = "has stopped moving" if float(np.ptp(measured[-count:])) < FAINT else "follows another course"
    side = "below" if away > 0 else "above"
    return f"at its end {run.runs[0]} is {100 * abs(away):.2g} % {side} the fitted law and {moving}"
