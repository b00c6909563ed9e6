"""The beginning of a curve, which no law describes: how much of it to leave out is found by leaving out the end."""

from __future__ import annotations

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.fit import at_best
from sooner.forecast.formula import FITTED
from sooner.forecast.law import Law
from sooner.forecast.table import FloatArray, Table, join

SHARES = (0.0, 0.01, 0.03, 0.1, 0.25)
"""Shares of a curve's steps that may be left out at its beginning."""
KEPT = 0.75
"""The rest is predicted from this share of the steps."""
LEAST = 24
"""Curves with fewer rows are fitted whole."""
ROWS = 12
"""Rows that have to remain before the border."""
FAINT = 2e-4
"""A change of the loss by this fraction is nothing."""
POINTS = 200
"""Rows per run that the choice is made on, evenly spaced; the law itself is fitted to all.

Means of neighbours would be above a steep beginning, which is then taken for a transient."""
BETTER = 0.9
"""More is left out only where that brings the error below this share of it."""


def without_transient(law: Law, table: Table) -> Table:
    """Return the table with the rows of beginnings marked as not to be fitted, where that predicts ends better.

    Args:
        law: a law of curves.
        table: curves: step, loss and what the law needs.
    """
    if len(table) < LEAST * len(table.runs) or "step" not in table or type(law).fit is not Law.fit:
        return table  # too short, or several laws at once, which their own fits choose among
    for _, rows in table.each_run():
        end = np.log(rows["loss"][np.argsort(rows["step"], kind="stable")[-max(3, len(rows) // 10) :]])
        if np.ptp(end) < FAINT:
            return table  # it has stopped moving, which a law without its beginning would hide
    ordered = table.where(np.argsort(table["step"], kind="stable"))
    few = join([rows.evenly(POINTS) for _, rows in ordered.each_run()])
    share = _share(few)
    inside = share <= KEPT
    chosen, lowest = 0.0, np.inf
    for first in SHARES:
        fitted = np.where(share > first, 1.0, 0.0)
        if first and (fitted.all() or (fitted * inside).sum() < ROWS * len(table.runs)):
            continue
        try:
            error = _error(law, few.plus(**{FITTED: fitted}), inside)
        except SoonerError:
            continue
        if error < BETTER * lowest:
            chosen, lowest = first, error
    if not chosen:
        return table
    fitted = np.where(_share(table) > chosen, 1.0, 0.0)
    note = (
        f"the first {chosen:.0%} of the steps ({int((fitted == 0).sum())} rows) are left out: the rest predicts better"
    )
    return table.plus(**{FITTED: fitted}).with_notes(note)


def _share(table: Table) -> FloatArray:
    """Return (n,) how far along its run each row lies."""
    last = {name: float(rows["step"].max()) for name, rows in table.each_run()}
    made: FloatArray = table["step"] / np.array([last[name] for name in table.run.tolist()])
    return made


def _error(law: Law, table: Table, inside: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
    """Return the mean relative error on the rows after the border of a fit to those before it."""
    made = at_best(law, table.where(inside), table)
    return float(np.mean(np.abs(np.log(made[~inside] / table["loss"][~inside]))))
