"""When a running job reaches its target, and whether it is worth going on until then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.curve import Curve
from sooner.forecast.table import FloatArray, Table

PACE = 0.5
"""The pace is that of the last share of a run, as what compiles or fills caches comes first."""
SURE = 0.001
"""A band says nothing of probabilities nearer to 0 or 1 than this."""
STANDING = 0.1
"""The loss of a run is the mean over this share of its last rows; a single row is mostly noise."""


@dataclass(frozen=True)
class Choice:
    """Going on or stopping, and what each costs on average where it was the wrong thing, in steps.

    Args:
        worth: what reaching the target is worth, in steps of this run.
        go: whether going on is the better choice.
        regret_going: mean loss of going on against knowing the outcome beforehand.
        regret_stopping: the same of stopping now.
    """

    worth: float
    go: bool
    regret_going: float
    regret_stopping: float


@dataclass(frozen=True)
class When:
    """When a target is reached.

    Args:
        run: name of the run.
        target: the loss.
        level: of the interval of steps.
        now: last measured step.
        loss: the run's loss now, the mean over the last tenth of its rows.
        total: last step of the run as planned.
        reached: whether that loss is at the target already.
        chance: probability that the loss is at the target at some step up to `total`.
        steps: low end, middle and high end of the step at which it is; inf for later than `total`.
        step: (n,) steps ahead.
        by: (n,) probability that the target is reached by each.
        ahead: steps that going on costs on average, if one stops at the target or at `total`.
        seconds_per_step: pace of the last half of the run; None where the rows have no seconds.
    """

    run: str
    target: float
    level: float
    now: float
    loss: float
    total: float
    reached: bool
    chance: float
    steps: tuple[float, float, float]
    step: FloatArray
    by: FloatArray
    ahead: float
    seconds_per_step: float | None = None

    @property
    def pays_from(self) -> float:
        """What the target must be worth, in steps, for going on to pay."""
        return self.ahead / self.chance

    def choose(self, worth: float) -> Choice:
        """Say whether to go on, by the expected value: reached at step t, the run is worth `worth` - (t - now).

        Raises:
            SoonerError: a worth that is no positive number.
        """
        if not 0 < worth < np.inf:
            raise SoonerError(f"the worth of the target is {worth:g} steps; give a positive number")
        if self.reached:
            return Choice(worth, False, 0.0, 0.0)
        spent = self.step - self.now
        share = np.diff(self.by, prepend=0.0)
        gained = worth - spent
        missed = 1.0 - self.chance
        going = float((share * np.maximum(-gained, 0.0)).sum() + missed * (self.total - self.now))
        stopping = float((share * np.maximum(gained, 0.0)).sum())
        return Choice(worth, going < stopping, going, stopping)


def when(curve: Curve, table: Table, target: float) -> When:
    """Say when a run's forecast reaches a target.

    A run that is off its forecast at one step is off at all of them, so the probability of having reached the target
    by a step is the largest so far of those of being at it, each by the forecast's band: a normal distribution of the
    loss's logarithm whose halves on the two sides of the forecast fit the two ends of the band.

    Args:
        curve: the forecast of the last run of the table, from where it stands.
        table: what it was made from.
        target: the loss.

    Raises:
        SoonerError: a target that is no loss, or a forecast that doesn't go beyond the run.
    """
    if not 0 < target < np.inf:
        raise SoonerError(f"the target is {target:g}; a loss to reach is a positive number")
    run = table.only(table.runs[-1:])
    run = run.where(np.argsort(run["step"], kind="stable"))
    now = float(run["step"][-1])
    ahead = curve.step > now
    if not ahead.any():
        raise SoonerError(f"the run has reached step {now:g}, and its forecast ends there; give a later --total")
    step, p = curve.step[ahead], curve.prediction
    loss = float(run["loss"][-max(1, round(STANDING * len(run))) :].mean())
    at = _chance(target, p.value[ahead], p.low[ahead], p.high[ahead], p.level)
    by = np.maximum.accumulate(at)
    reached = loss <= target
    if reached:
        by = np.ones_like(by)
    # between two steps the run goes on with the mean of the chances that it has to
    grid, still = np.concatenate([[now], step]), 1 - np.concatenate([[by[0] if reached else 0.0], by])
    spent = 0.0 if reached else float((np.diff(grid) * (still[1:] + still[:-1]) / 2).sum())
    ends = tuple(_quantile(q, step, by) for q in ((1 - p.level) / 2, 0.5, (1 + p.level) / 2))
    return When(
        run.runs[0],
        target,
        p.level,
        now,
        loss,
        float(step[-1]),
        reached,
        float(by[-1]),
        (now, now, now) if reached else (ends[0], ends[1], ends[2]),
        step,
        by,
        spent,
        _pace(run),
    )


def _chance(target: float, value: FloatArray, low: FloatArray, high: FloatArray, level: float) -> FloatArray:
    """Return (n,) probabilities that the loss is at or below the target, from `SURE` to 1 - `SURE`."""
    from scipy.special import ndtr, ndtri  # here, because importing it takes longer than all of the forecast

    away = np.log(target) - np.log(value)
    side = np.where(away < 0, np.log(value) - np.log(low), np.log(high) - np.log(value))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = ndtr(np.where(away == 0, 0.0, away / side * ndtri((1 + level) / 2)))
    made: FloatArray = np.clip(share, SURE, 1 - SURE)
    return made


def _quantile(share: float, step: FloatArray, by: FloatArray) -> float:
    """Return the first step by which the target is reached with this probability; inf where none is."""
    first = np.flatnonzero(by >= share)
    return float(step[first[0]]) if first.size else np.inf


def _pace(run: Table) -> float | None:
    """Return the seconds per step of the last half of a run; None where they are not known or don't rise."""
    if "seconds" not in run or len(run) < 3:
        return None
    last = run.where(run["step"] >= PACE * run["step"][-1])
    last = last.where(np.isfinite(last["seconds"]))
    if len(last) < 2:
        return None
    steps, seconds = np.ptp(last["step"]), float(last["seconds"][-1] - last["seconds"][0])
    return seconds / float(steps) if steps > 0 and seconds > 0 else None
