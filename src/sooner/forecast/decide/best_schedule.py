"""The learning-rate schedule with the lowest final loss under a fitted law."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.fitted import LEVEL, Fit
from sooner.forecast.schedules import SHAPES, Schedule
from sooner.forecast.table import FloatArray
from sooner.forecast.table import table as make

KNOTS = 24
"""Equal spans of the training over which a free schedule may fall."""
_ROUNDS = 60
_SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8)
_ROWS = 400


@dataclass(frozen=True)
class Candidate:
    """A schedule with its predicted final loss.

    Args:
        schedule: as typed, or "free" for the one that is of no kind.
        loss: predicted at the end.
        gain: the loss of cosine to a tenth minus this loss: what the schedule saves.
        low: lower end of the band of the gain.
        high: upper end.
    """

    schedule: str
    loss: float
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class ScheduleChoice:
    """The candidates, the best first, and the free schedule itself.

    Args:
        candidates: by predicted loss.
        step: (n,) steps of the free schedule.
        lr: (n,) its learning rates.
        level: of the bands.
        warnings: why to doubt it.
    """

    candidates: list[Candidate]
    step: FloatArray
    lr: FloatArray
    level: float
    warnings: tuple[str, ...]


def best_schedule(
    fit: Fit, total: int, *, peak: float | None = None, warmup: float = 0.0, level: float = LEVEL
) -> ScheduleChoice:
    """Search the schedules of a given length for the lowest final loss.

    Kinds with a parameter are scanned; a free schedule that never rises after the warm-up starts from the best of them
    and is improved span by span (Luo et al., 2025, arXiv 2503.12811, section 5, descends on the decreases likewise).

    Args:
        fit: of a law in step and lr.
        total: steps.
        peak: largest learning rate; the largest fitted where left out.
        warmup: steps of linear rise.
        level: of the bands.

    Raises:
        SoonerError: the law does not read learning rates, or numbers that can't be.
    """
    if "lr" not in fit.law.needs:
        raise SoonerError(f"{fit.law.name} does not read learning rates; fit annealing or multi_power")
    if total < KNOTS:
        raise SoonerError(f"the total of {total} steps is too short to plan; give {KNOTS} or more")
    if not (total > warmup >= 0):
        raise SoonerError(
            f"the total of {total} steps must exceed the warm-up of {warmup:g}, which must not be negative"
        )
    top = float(fit.table["lr"].max()) if peak is None else float(peak)
    if not (np.isfinite(top) and top > 0):
        raise SoonerError(f"the peak learning rate is {top:g}; give a positive number")
    base: dict[str, Any] = {"peak": top, "total": float(total), "warmup": float(warmup)}
    named = [Schedule("cosine", **base, end=0.1 * top), *_kinds(base, warmup)]
    steps = np.unique(np.round(np.concatenate([np.linspace(1, total, _ROWS), [max(warmup, 1.0)]])))
    losses = _final(fit, steps, [one.lr(steps) for one in named])
    start = named[int(np.argmin(losses[0]))].lr(steps)
    free = _improve(fit, steps, start, top, warmup)
    everything = np.concatenate([losses, _final(fit, steps, [free])], axis=1)
    names = [*(str(one) for one in named), "free"]
    gains = everything[:, :1] - everything
    low, high = np.nanquantile(gains[1:], [(1 - level) / 2, (1 + level) / 2], axis=0)
    made = [
        Candidate(name, float(everything[0, k]), float(gains[0, k]), float(low[k]), float(high[k]))
        for k, name in enumerate(names)
    ]
    return ScheduleChoice(sorted(made, key=lambda one: one.loss), steps, free, level, _doubts(fit, total, top, made))


def _kinds(base: dict[str, Any], warmup: float) -> list[Schedule]:
    made = [Schedule("constant", **base), Schedule("cosine", **base), Schedule("linear", **base)]
    for shape in ("linear", "sqrt", "cosine"):
        assert shape in SHAPES
        for part in _SHARES:
            decay = part * base["total"]
            if decay <= base["total"] - warmup:
                made.append(Schedule("wsd", **base, decay=decay, shape=shape))
    return made


def _final(fit: Fit, steps: FloatArray, rates: list[FloatArray]) -> FloatArray:
    """Return (1 + b, k): the loss at the end of each schedule, by the best fit and by every draw."""
    every = np.concatenate([fit.values[None], fit.draws])
    found = []
    for rate in rates:
        rows = fit.law.table(make("schedule", step=steps, lr=np.maximum(rate, 0.0)), target=False)
        with np.errstate(all="ignore"):
            found.append(fit.law.predict(every, fit.law.prepare(rows))[:, -1])
    return np.stack(found, axis=1)


def _improve(fit: Fit, steps: FloatArray, start: FloatArray, peak: float, warmup: float) -> FloatArray:
    """Return a schedule that never rises after the warm-up, improved one knot at a time."""
    after = steps >= warmup
    knots = np.linspace(max(warmup, steps[0]), steps[-1], KNOTS + 1)
    level = np.minimum.accumulate(np.interp(knots, steps, start))
    first = fit.values[None]

    def rates(heights: FloatArray) -> FloatArray:
        return np.where(after, np.interp(steps, knots, heights), start)

    def loss(heights: FloatArray) -> float:
        rows = fit.law.table(make("schedule", step=steps, lr=rates(heights)), target=False)
        made = float(fit.law.predict(first, fit.law.prepare(rows))[0, -1])
        return made if np.isfinite(made) else np.inf

    best, reach = loss(level), 0.3
    for _ in range(_ROUNDS):
        before = best
        for knot in range(1, KNOTS + 1):
            above, below = level[knot - 1], level[knot + 1] if knot < KNOTS else 0.0
            for height in (level[knot] + reach * (above - level[knot]), level[knot] - reach * (level[knot] - below)):
                if height != level[knot]:
                    trial = level.copy()
                    trial[knot] = height
                    if (value := loss(trial)) < best - 1e-9:
                        level, best = trial, value
        if before - best < 1e-6:
            reach /= 2
            if reach < 0.02:
                break
    return np.minimum(rates(level), peak)


def _doubts(fit: Fit, total: float, peak: float, made: list[Candidate]) -> tuple[str, ...]:
    told = list(fit.warnings)
    reached = float(fit.table["step"].max())
    seen = float(fit.table["lr"].max())
    if total > 10 * reached:
        told.append(f"{total:g} steps are {total / reached:.0f} times what was fitted ({reached:g})")
    if not 0.999 <= peak / seen <= 1.001:
        told.append(
            f"the peak {peak:g} is not the fitted one ({seen:g}): the law knows no best peak, and promises too much of "
            "a higher one"
        )
    if len(fit.table.runs) < 2:
        told.append("one curve was fitted: how much a decay gains rests on that curve's own decay")
    best = min(made, key=lambda one: one.loss)
    if best.low <= 0:
        told.append("the band of the best schedule's gain over cosine includes zero: the law can't tell them apart")
    return tuple(told)
