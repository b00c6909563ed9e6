"""How a run goes on from where it stands, which need not be where its law puts it.

Three cases, decided by what is known of the run alone:

- the learning rate is zero from here on: the weights stand still, and the loss stays at its mean since;
- no learning rate is known, and a law fitted on the first three quarters of the steps misses the last quarter by more
  than twice what repeating the last value does: the last value stands;
- otherwise the run keeps its distance to the law. The distance is the mean over its last rows, less what is chance:
  d (1 - e^2 / d^2)+ with e its standard error, the positive part of James and Stein (1961).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.bands.usual import half_width
from sooner.forecast.fit import fit
from sooner.forecast.fitted import WIDEST, Fit, Prediction
from sooner.forecast.table import FloatArray, Table

FAINT = 2e-4
"""A change of the loss by this fraction is nothing."""
SLIGHT = 2e-3
"""A law that is off by less than this fraction at the end of a run still holds."""
KEPT = 0.75
"""Share of the steps on which the law is fitted again, to see whether it would have known the rest."""
CLEARLY = 2.0
"""The last value stands where the law's error on the rest is more than so many times its own: a narrow win is chance.

Without that margin the fallback lost to the law on the 24 curves of `bands/sweep.csv`, known up to half of their steps.
"""
LEAST = 12
"""A run with fewer rows says too little of its end."""
LEAST_LATE = 4
"""Rows through which the pace of a run's end is taken."""


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
    if len(run) < LEAST:
        return predicted, []
    course = follow(fitted, run, at, later)
    value = np.where(later, course.value, predicted.value)
    below, above = _band(fitted, run, at, course, predicted.level)
    made = replace(
        predicted,
        value=value,
        low=np.where(later, value * np.exp(below), predicted.low),
        high=np.where(later, value * np.exp(above), predicted.high),
    )
    return made, course.told


@dataclass(frozen=True)
class Course:
    """How a run goes on, without a band.

    Args:
        value: (n,) losses.
        change: (n,) the change of the logarithm that was forecast from the end of the run, which errors go with.
        factor: (n,) steps over those of the run, 1 up to there.
        noise: deviation of a row about its neighbours, in logarithm, at the end of the run.
        stands: whether the last value is the forecast.
        told: what to say about it.
    """

    value: FloatArray
    change: FloatArray
    factor: FloatArray
    noise: float
    stands: bool
    told: list[str]


def follow(fitted: Fit, run: Table, at: Table, later: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Course:
    """Return how a run goes on: at its distance from the law, or at its last value.

    Args:
        fitted: the law.
        run: rows of the run, by step.
        at: where the law is asked.
        later: (n,) which of these rows are after the run.
    """
    measured = np.log(run["loss"])
    count = max(3, len(run) // 10)
    own = np.log(fitted.at(run))
    distance = (own - measured)[-count:]
    away, scatter = float(distance.mean()), float(np.std(np.diff(measured[-count:])))
    law = np.log(fitted.at(at))
    factor = np.where(later, at["step"] / run["step"][-1], 1.0)
    change = np.abs(law - float(own[-count:].mean()))
    change = np.where(later, np.maximum(change, _slope(run, own, measured) * np.log(factor)), 0.0)
    noise = _noise(measured)
    ended = _words(run, measured, away, scatter)
    if "lr" not in run and _last_is_better(fitted, run):
        end = measured[-count:] if np.ptp(measured[-count:]) < FAINT else measured[-1:]
        missed = "a law fitted on its first three quarters missed the last by more than twice what standing still did"
        value = f"the last value, {run['loss'][-1]:.4g}, is the safer forecast, and the one given"
        level = np.full(len(at), float(np.exp(end.mean())))
        change = np.where(later, _slope(run, measured, measured) * np.log(factor), 0.0)  # the law's own does not count
        return Course(level, change, factor, noise, True, [f"{ended or missed}: {value}"])
    error = scatter / np.sqrt(2 * count)  # a difference of two rows has twice the variance of one
    kept = away * max(0.0, 1 - (error / away) ** 2) if away else 0.0
    told = [f"{ended}: the forecast keeps that distance"] if ended else []
    return Course(np.exp(law - kept), change, factor, noise, False, told)


def _band(fitted: Fit, run: Table, at: Table, course: Course, level: float) -> tuple[FloatArray, FloatArray]:
    """Return how far the band reaches below and above the forecast, in logarithm.

    The draws of the law are held to the end of the run, which was measured, so that they close towards it; what a row
    scatters by comes on top. The band is at least as wide as forecasts that far usually need.
    """
    count = max(3, len(run) // 10)
    scatter = course.noise * np.sqrt(1 + 1 / count)
    ends = [(1 - level) / 2, (1 + level) / 2]
    normal = NormalDist().inv_cdf(ends[1])
    usual = half_width("schedule" if "lr" in run else "blind", course.factor, level, fitted.scores) * course.change
    reach = np.minimum(np.hypot(usual, normal * scatter), WIDEST)
    if course.stands:
        return -reach, reach
    with np.errstate(all="ignore"):
        drawn, before = (np.log(fitted.drawn(one)) for one in (at, run.where(np.arange(len(run))[-count:])))
        best, known = (np.log(fitted.at(one)) for one in (at, run.where(np.arange(len(run))[-count:])))
    apart = (drawn - before.mean(axis=1, keepdims=True)) - (best - known.mean())
    apart = np.where(np.isfinite(apart), apart, np.nan)
    shock = scatter * np.random.default_rng(fitted.seed + 1).standard_normal((len(apart), 1))
    below, above = np.nanquantile(apart + shock, ends, axis=0)
    return np.clip(below, -WIDEST, -reach), np.clip(above, reach, WIDEST)


def _slope(run: Table, own: FloatArray, measured: FloatArray) -> float:
    """Return how fast a run changes per e-fold of steps over its last half, by the law or as measured."""
    late = run["step"] >= 0.5 * run["step"][-1]
    if late.sum() < LEAST_LATE:
        late = np.arange(len(run)) >= len(run) - LEAST_LATE
    x = np.log(run["step"][late])
    middle = x - x.mean()
    spread = max(float(middle @ middle), 1e-12)
    return max(abs(float(middle @ one[late])) / spread for one in (own, measured))


def _noise(measured: FloatArray) -> float:
    """Return the deviation of a row at the end of a run: of second differences, by their median, over the last third.

    A smooth bend does not show in second differences, and a few jumps do not move a median.
    """
    end = measured[-max(LEAST, len(measured) // 3) :]
    return float(np.median(np.abs(np.diff(end, n=2))) / (0.6745 * np.sqrt(6)))


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
    """Return whether the last value would have said the last quarter of the run's steps clearly better than the law."""
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
    return of_law > CLEARLY * float(np.mean(np.abs(np.log(first["loss"][-1]) - truth)))


def _words(run: Table, measured: FloatArray, away: float, scatter: float) -> str:
    """Return how a run ends away from its law, farther than its own scatter explains; nothing where it does not."""
    if len(run) < LEAST or abs(away) < 3 * (scatter + FAINT) or abs(away) < SLIGHT:
        return ""
    count = max(3, len(run) // 10)
    moving = "has stopped moving" if float(np.ptp(measured[-count:])) < FAINT else "follows another course"
    side = "below" if away > 0 else "above"
    return f"at its end {run.runs[0]} is {100 * abs(away):.2g} % {side} the fitted law and {moving}"
