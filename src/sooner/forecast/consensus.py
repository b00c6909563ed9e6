"""Several plain laws asked together, and their forecast drawn back to the last value as far as noise explains it.

On short or noisy curves it is unknown which law is right, and picking one by leaving out picks the wrong one about as
often as not; a median needs no choice. And what the laws say will change may be noise: with d the change that their
median predicts, in logarithm, and v the variance of the rows about the laws, the forecast is

    last value x exp(s d),    s = d^2 / (d^2 + 2 v)

the linear shrinkage of least squared error for a change that is known with variance 2 v: it is the difference of two
numbers, the law and the last value, each as uncertain as a row. So a clear trend is followed (s near 1), and on a curve
that only jitters the last value stands (s near 0).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.fit import fit, fit_one
from sooner.forecast.fitted import Fit, link
from sooner.forecast.formula import Parameter
from sooner.forecast.law import Law
from sooner.forecast.laws.broken_power import BrokenPower
from sooner.forecast.laws.m4 import M4
from sooner.forecast.laws.power_floor import PowerFloor
from sooner.forecast.one_quantity import OneQuantity
from sooner.forecast.table import FloatArray, Table
from sooner.forecast.table import table as make

_MOST = 60
"""Points fitted at most, evenly thinned; more change nothing and take longer."""
_LEAST = 3


class Consensus(OneQuantity):
    """Median of the power law with a floor, M4 and the broken power law, shrunk towards the last value.

    A law takes part where there are more rows than it has parameters; with none, the last value is the forecast.

    Args:
        over: the column x.
        target: the column to predict.
        laws: those that take part; `fit` finds them.
    """

    name = "consensus"
    title = "median of plain laws in one quantity, shrunk towards the last value"
    formula = "y = last exp(s d), d = log(median of laws / last), s = d^2 / (d^2 + 2 v)"
    source = "this module; shrinkage after James and Stein, 1961"

    def __init__(self, over: str = "tokens", target: str = "loss", laws: tuple[Law, ...] | None = None) -> None:
        super().__init__(over, target)
        every: tuple[Law, ...] = (PowerFloor(over), M4(over, target), BrokenPower(over, target))
        self.laws = tuple(law for law in every if law.target == target) if laws is None else laws
        shown = [Parameter("last", target, 1e-300, 1e300, "log"), Parameter("v", "log squared", 0.0, 1e6)]
        for law in self.laws:
            shown += [Parameter(f"{law.name} {p.name}", p.unit, p.low, p.high, p.scale) for p in law.parameters]
        self.parameters = tuple(shown)  # type: ignore[misc]

    def starts(self, table: Table) -> FloatArray:
        """Return (1, p): there is nothing to search, as the laws are fitted one by one."""
        return self.fit(table, draws=2).values[None]

    def prepare(self, table: Table) -> list[Any]:
        """Return what each law needs of a table, after the number of its rows."""
        return [len(table), *(law.prepare(table) for law in self.laws)]

    def predict(self, values: FloatArray, data: list[Any]) -> FloatArray:
        """Return (k, n) forecasts; a law whose parameters are NaN in a row of `values` is not asked there."""
        last, variance = np.log(values[:, :1]), values[:, 1:2]
        made, at = np.full((len(self.laws), len(values), data[0]), np.nan), 2
        if not self.laws:
            return np.repeat(np.exp(last), data[0], axis=1)
        for k, (law, own) in enumerate(zip(self.laws, data[1:], strict=True)):
            asked = np.flatnonzero(np.isfinite(values[:, at]))
            part = law.predict(values[asked, at : at + len(law.parameters)], own)
            made[k, asked] = np.log(np.maximum(part, 1e-300))
            at += len(law.parameters)
        change = np.nanmedian(made, axis=0) - last
        share = change**2 / np.maximum(change**2 + 2 * variance, 1e-300)
        forecast: FloatArray = np.exp(last + share * change)
        return forecast

    def fit(self, table: Table, *, draws: int = 200, seed: int = 0) -> Fit:
        """Fit every law on its own; a draw of the band is of one law, taken at its word, so bands hold all of them.

        Raises:
            SoonerError: fewer than three rows, or values that can't be.
        """
        table = self.table(table)
        if len(table) < _LEAST:
            raise SoonerError(
                f"there {'is' if len(table) == 1 else 'are'} {len(table)} rows; a forecast needs three or more"
            )
        table = table.where(np.argsort(table[self.over], kind="stable"))
        last = float(table[self.target][-1])
        table = table.evenly(_MOST)
        asked = tuple(law for law in self.laws if len(table) > len(law.parameters))
        fits = [fit_one(law, table, draws=draws, seed=seed) for law in asked]
        spare = [len(table) - len(one.values) for one in fits]
        spread = [float((one.residuals() ** 2).sum()) / free for one, free in zip(fits, spare, strict=True)]
        if not fits:  # three rows say nothing of their noise but how far they lie apart
            spread = [float(np.var(link(self, table[self.target])))]
        own = Consensus(self.over, self.target, asked)
        level = np.array([last, np.median(spread)])
        values = np.concatenate([level, *(one.values for one in fits)])
        free = np.median(spare) if fits else len(table) - 1
        # the scatter of these rows, not the usual one of laws: what a law gets wrong shows in where the laws part
        noise = np.sqrt(level[1] * free / np.random.default_rng(seed).chisquare(free, draws))
        which = np.arange(draws) % max(len(fits), 1)
        drawn = np.tile(np.array([last, 0.0 if fits else level[1], *np.full(len(values) - 2, np.nan)]), (draws, 1))
        at = 2
        for k, one in enumerate(fits):
            rows = which == k
            drawn[rows, at : at + len(one.values)] = one.draws[rows]
            at += len(one.values)
        how = fits[0].how if fits else "the scatter of the rows"
        objective = float(np.median([one.objective for one in fits])) if fits else 0.0
        ends, scores = np.array([objective]), self.tried(table, draws)
        return Fit(own, table, values, objective, ends, values[None], drawn, noise, how, (), seed, scores)


def consensus(table: Table, over: str, at: FloatArray, target: str = "loss") -> FloatArray:
    """Return (n,) forecasts of `Consensus` at `at` (n,), without bands.

    Args:
        table: one curve or one point per run.
        over: the column that is extrapolated.
        at: its values.
        target: the column that is predicted.

    Raises:
        SoonerError: a column is missing, or fewer than three rows.
    """
    return fit(Consensus(over, target), table, draws=2).at(make(**{over: np.asarray(at, dtype=np.float64)}))
