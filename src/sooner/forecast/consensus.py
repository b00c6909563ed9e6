"""Several plain laws and the last value asked together: their median, which no single bad one can pull away."""

from __future__ import annotations

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.fit import fit
from sooner.forecast.law import Law
from sooner.forecast.laws.broken_power import BrokenPower
from sooner.forecast.laws.m4 import M4
from sooner.forecast.laws.power_floor import PowerFloor
from sooner.forecast.table import FloatArray, Table
from sooner.forecast.table import table as make

_MOST = 60
"""Points fitted at most, evenly thinned; more change nothing and take longer."""


def consensus(table: Table, over: str, at: FloatArray, target: str = "loss") -> FloatArray:
    """Return (n,) medians of the last value, power law with a floor, M4 and broken power law at `at` (n,).

    On noisy or short curves it is unknown which law is right, and choosing one by leaving out chooses the wrong one
    about as often as not; the median needs no choice.

    Args:
        table: one curve or one point per run.
        over: the column that is extrapolated.
        at: its values.
        target: the column that is predicted.

    Raises:
        SoonerError: a column is missing, or fewer than three rows.
    """
    table = table.require(over, target)
    if len(table) < 3:
        raise SoonerError(
            f"there {'is' if len(table) == 1 else 'are'} {len(table)} rows; a forecast needs three or more"
        )
    order = np.argsort(table[over], kind="stable")
    table = table.where(order)
    last = float(table[target][-1])
    if len(table) > _MOST:
        table = table.where(np.unique(np.round(np.linspace(0, len(table) - 1, _MOST)).astype(np.intp)))
    where = make(**{over: np.asarray(at, dtype=np.float64)})
    made = [np.full(len(where), last)]
    laws: list[Law] = [PowerFloor(over), M4(over, target), BrokenPower(over, target)]
    for law in laws:
        try:
            one = fit(law, table, draws=2).at(where) if law.target == target else None
        except SoonerError:
            continue
        if one is not None and np.isfinite(one).all():
            made.append(one)
    result: FloatArray = np.median(made, axis=0)
    return result
