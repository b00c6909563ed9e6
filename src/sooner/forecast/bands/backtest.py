"""How far off a law would have been from earlier ends of the rows that it is fitted to (rolling origins)."""

from __future__ import annotations

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.bands.usual import Scores
from sooner.forecast.fitted import TINY, reach, scatter
from sooner.forecast.formula import Formula
from sooner.forecast.table import FloatArray, Table

SHRUNK = (2.0, 4.0, 10.0)
"""The rows are cut at their largest value of `over` by each of these."""
NEAREST = 1.5
"""Rows nearer than this say nothing: no change is forecast there that an error could be measured by."""
SPARE = 2
"""Rows more than parameters that an origin needs."""


def of_scale(law: Formula, table: Table, factors: tuple[float, ...] = SHRUNK) -> Scores | None:
    """Return scores of a law of final losses; None where no origin leaves enough rows.

    Args:
        law: a law of the loss in one quantity, or in size and data.
        table: as the law wants it.
        factors: by which the rows are cut.
    """
    try:
        table = table.require(law.over)
    except SoonerError:
        return None
    over = table[law.over]
    reached: list[FloatArray] = []
    scores: list[FloatArray] = []
    sizes: set[int] = set()
    for shrunk in factors:
        near = over <= over.max() / shrunk
        if near.sum() < len(law.parameters) + SPARE or int(near.sum()) in sizes:
            continue
        sizes.add(int(near.sum()))
        try:
            fitted = law.fit(table.where(near), draws=2)
        except SoonerError:
            continue
        far = table.where(~near)
        factor, change = reach(fitted, far)
        error = np.log(far[law.target]) - np.log(np.maximum(fitted.at(far), TINY))
        # what rows scatter by about the law is in every band already
        error = np.sqrt(np.maximum(error**2 - scatter(fitted) ** 2, 0.0))
        asked = (change > 0) & (factor >= NEAREST)
        if not asked.any():
            continue
        reached.append(factor[asked])
        scores.append(error[asked] / change[asked])
    if not scores:
        return None
    return Scores(np.concatenate(reached), np.concatenate(scores), len(scores))
