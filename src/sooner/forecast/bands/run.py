"""How far off the forecast of a run's end would have been from earlier points of the same run (rolling origins)."""

from __future__ import annotations

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.bands.usual import Scores
from sooner.forecast.course import LEAST, follow
from sooner.forecast.formula import FITTED
from sooner.forecast.law import Law
from sooner.forecast.table import Table
from sooner.forecast.transient import without_transient

FACTORS = (1.5, 2.0, 4.0)
"""The run is cut at its last step by each of these."""
LAST = 3
"""Rows at the end of the run, whose mean error counts."""


def of_run(law: Law, table: Table, run: Table, factors: tuple[float, ...] = FACTORS) -> Scores | None:
    """Return scores of a law of curves on a run of the table; None where the run is too short for any origin.

    Args:
        law: the law.
        table: the curves that it is fitted to.
        run: the rows of one of them.
        factors: by which the run is cut.
    """
    table, run = table.without(FITTED), run.without(FITTED)  # what is left out is found anew at every origin
    run = run.where(np.argsort(run["step"], kind="stable"))
    found: list[tuple[float, float]] = []
    for factor in factors:
        border = float(run["step"][-1]) / factor
        before = run["step"] <= border
        if before.sum() < LEAST:
            continue
        try:
            known = table.where((table.run != run.runs[0]) | (table["step"] <= border))
            course = follow(law.fit(without_transient(law, known), draws=2), run.where(before), run, ~before)
        except SoonerError:
            continue
        off = float(np.mean(np.log(course.value[-LAST:]) - np.log(run["loss"][-LAST:])))
        change = float(np.mean(course.change[-LAST:]))
        if change > 0 and np.isfinite(off):
            beyond = np.sqrt(max(off**2 - course.noise**2 / LAST, 0.0))  # a row's own scatter is in every band already
            found.append((float(course.factor[-1]), float(beyond) / change))
    if not found:
        return None
    reached, scores = np.array(found).T
    return Scores(reached, scores, len(found))
