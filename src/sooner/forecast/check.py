"""Leaving out what a law should predict: its error and the coverage of its bands, beside the two baselines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from sooner.error import SoonerError
from sooner.forecast.fit import fit
from sooner.forecast.fitted import LEVEL, Fit
from sooner.forecast.formula import Formula
from sooner.forecast.law import Law
from sooner.forecast.laws.power_floor import PowerFloor
from sooner.forecast.table import FloatArray, Table

Leave = Literal["largest", "curve", "end"]

SAME_SCALE = 0.05
"""Rows whose scales differ by less than this, in logarithm, belong to one scale."""
KEPT = 0.5
"""Share of a single curve that is fitted where its end is left out."""


@dataclass(frozen=True)
class Held:
    """One run that was left out.

    Args:
        run: its name.
        at: its scale, the law's `over`.
        measured: the target, averaged over the run's rows.
        predicted: by the law.
        low: lower end of the band, averaged.
        high: upper end.
        error: mean absolute error of the law, relative to the target.
        last_value: the same of repeating the last value fitted.
        power_floor: the same of a power law with a floor, None where it can't be fitted.
        covered: share of the run's rows inside the band.
    """

    run: str
    at: float
    measured: float
    predicted: float
    low: float
    high: float
    error: float
    last_value: float
    power_floor: float | None
    covered: float


@dataclass(frozen=True)
class Check:
    """What leaving out showed.

    Args:
        law: name of the law.
        left_out: what was left out, in words.
        level: nominal coverage.
        held: one entry per run left out.
        warnings: of the fits made.
    """

    law: str
    left_out: str
    level: float
    held: list[Held]
    warnings: list[str]

    @property
    def error(self) -> float:
        """Mean relative error of the law over the runs."""
        return float(np.mean([one.error for one in self.held]))

    @property
    def last_value(self) -> float:
        """Mean relative error of the last value."""
        return float(np.mean([one.last_value for one in self.held]))

    @property
    def power_floor(self) -> float | None:
        """Mean relative error of the power law with a floor."""
        errors = [one.power_floor for one in self.held if one.power_floor is not None]
        return float(np.mean(errors)) if errors else None

    @property
    def coverage(self) -> float:
        """Share of the left-out rows inside their bands."""
        return float(np.mean([one.covered for one in self.held]))


def kind(law: Law, table: Table) -> Leave:
    """Return what a check of this law leaves out by default: a curve, the end of the only one, or the largest scale."""
    if "step" not in law.needs:
        return "largest"
    return "curve" if len(table.runs) > 1 else "end"


def check(
    law: Law, table: Table, leave: Leave | None = None, *, level: float = LEVEL, draws: int = 200, seed: int = 0
) -> Check:
    """Fit on a part of the table and predict the rest.

    Args:
        law: the law.
        table: measurements.
        leave: "largest" scale, one "curve" after the other, or the "end" of every curve; by the law where left out.
        level: nominal coverage of the bands.
        draws: refits for the bands.
        seed: of the resampling.

    Raises:
        SoonerError: too little would remain.
    """
    table = table.require(law.over, *law.needs, law.target)  # the law prepares its own rows, of the kept ones alone
    leave = leave or kind(law, table)
    held: list[Held] = []
    warnings: list[str] = []
    for mask in _masks(law, table, leave):
        fitted = fit(law, table.where(~mask), draws=draws, seed=seed)
        warnings += fitted.warnings
        held += _judge(fitted, table, mask, level)
    words = {
        "largest": f"the {'smallest' if law.toward == 'small' else 'largest'} {law.over}",
        "curve": "one curve at a time",
        "end": f"the last {1 - KEPT:.0%} of every curve",
    }
    return Check(law.name, words[leave], level, held, list(dict.fromkeys(warnings)))


def left_out_errors(laws: list[Law], table: Table, leave: Leave | None = None, *, seed: int = 0) -> dict[str, float]:
    """Return the mean relative error of every law that could be fitted on what was left out, by its name.

    Raises:
        SoonerError: none could.
    """
    errors: dict[str, float] = {}
    refused = ""
    for law in laws:
        try:
            errors[law.name] = check(law, table, leave, draws=2, seed=seed).error
        except SoonerError as error:
            refused = str(error)
    if not errors:
        raise SoonerError(f"none of the laws can be checked on this table: {refused}")
    return errors


def choose(laws: list[Law], table: Table, leave: Leave | None = None, *, seed: int = 0) -> tuple[Law, dict[str, float]]:
    """Return the law with the smallest left-out error, and the errors of all that could be fitted.

    Raises:
        SoonerError: none could.
    """
    errors = left_out_errors(laws, table, leave, seed=seed)
    return next(law for law in laws if law.name == min(errors, key=errors.__getitem__)), errors


def _masks(law: Law, table: Table, leave: Leave) -> list[npt.NDArray[np.bool_]]:
    if leave == "curve":
        if len(table.runs) < 2:
            raise SoonerError("there is one curve only, so none can be left out; leave out its end with --leave end")
        return [table.run == name for name in table.runs]
    if leave == "end":
        mask = np.zeros(len(table), dtype=np.bool_)
        for name in table.runs:
            rows = np.flatnonzero(table.run == name)
            mask[rows[int(np.ceil(KEPT * len(rows))) :]] = True
        if not mask.any():
            raise SoonerError("every run has one row only, so no end can be left out; use --leave largest")
        return [mask]
    scale = np.log(table.require(law.over)[law.over])
    mask = scale < scale.min() + SAME_SCALE if law.toward == "small" else scale > scale.max() - SAME_SCALE
    if mask.all():
        raise SoonerError(f"all rows are at one {law.over}, so the largest can't be left out; add rows at other scales")
    return [mask]


def _judge(fitted: Fit, table: Table, mask: npt.NDArray[np.bool_], level: float) -> list[Held]:
    law = fitted.law
    # a law of curves reads the learning rates of a run from its first step on, so whole runs are predicted
    whole = np.isin(table.run, table.run[mask])
    asked = table.where(whole)
    predicted = fitted.predict(asked, level)
    rows = mask[whole] & law.holds(asked)
    out = asked.where(rows)
    value, low, high = predicted.value[rows], predicted.low[rows], predicted.high[rows]
    over = out.require(law.over)
    kept = fitted.table.require(law.over)
    target = out[law.target]
    plain = _power_floor(law, kept, over)
    held = []
    for name in out.runs:
        own = out.run == name
        before = kept.where(kept.run == name) if name in kept.runs else kept.last()
        last = before.furthest(law.over, law.target)
        truth = target[own]
        scale = np.maximum(np.abs(truth), 1e-12)
        inside = (truth >= low[own]) & (truth <= high[own])
        held.append(
            Held(
                name,
                float(over[law.over][own].max()),
                float(truth.mean()),
                float(value[own].mean()),
                float(low[own].mean()),
                float(high[own].mean()),
                float(np.mean(np.abs(value[own] - truth) / scale)),
                float(np.mean(np.abs(last - truth) / scale)),
                None if plain is None else float(np.mean(np.abs(plain[own] - truth) / scale)),
                float(inside.mean()),
            )
        )
    return held


def _power_floor(law: Formula, kept: Table, out: Table) -> FloatArray | None:
    """Return what a power law with a floor in the law's `over` predicts; None where it can't be fitted."""
    if law.target != "loss" or isinstance(law, PowerFloor):
        return None
    try:
        return fit(PowerFloor(law.over), kept, draws=2).at(out)
    except SoonerError:
        return None
