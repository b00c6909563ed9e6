"""Of many runs, the few that say most of how one of them goes on: laws of curves are fitted to every step of each."""

from __future__ import annotations

import numpy as np

from sooner.forecast.table import Table, join

MOST = 5
"""Runs fitted together; leaving each out in turn takes a time that grows with the square of their number."""
ROWS = 120
"""Rows kept of each where there are more runs than that."""


def nearest_runs(table: Table) -> Table:
    """Return the last run of a table with those nearest to it in length and largest learning rate, with a note.

    Args:
        table: curves, with step and lr; with at most `MOST` runs it is returned as it is.
    """
    runs = table.runs
    if len(runs) <= MOST:
        return table
    pieces = dict(table.each_run())
    places = np.array([[np.log(max(one["step"].max(), 1.0)), _peak(one)] for one in pieces.values()])
    away = np.abs(places - places[-1]).sum(axis=1)
    near = np.argsort(away[:-1], kind="stable")[: MOST - 1]
    kept = [pieces[runs[at]] for at in (*sorted(near.tolist()), len(runs) - 1)]
    note = f"of {len(runs)} runs, the {MOST} nearest to {runs[-1]} in length and peak learning rate were fitted"
    return join([one.evenly(ROWS) for one in kept]).with_notes(note)


def _peak(run: Table) -> float:
    return float(np.log(max(run["lr"].max(), 1e-12)))
