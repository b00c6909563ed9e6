"""Generalisation error against training-set size, in three regions: a best guess, a power law, an irreducible rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from sooner.error import SoonerError
from sooner.forecast.fit import PRIOR_NOISE
from sooner.forecast.fitted import Fit
from sooner.forecast.formula import Parameter, grid, unpack
from sooner.forecast.one_quantity import OneQuantity
from sooner.forecast.table import FloatArray, Table

_SURE = 5.0
"""A small-data region is believed where the power law, in it and beyond, would fall by this many times the noise."""
_FLAT = 0.25
"""... and no more than this share of that fall is seen in it."""
_WITHIN = 3.0
"""Targets this many times the noise from the best guess still count as one."""


class Hestness(OneQuantity):
    """epsilon(m) = alpha m^beta_g + gamma, fitted beyond the small-data region.

    Hestness et al., 2017, arXiv 1712.00409. Rows with so little data that the model only makes its best guess are left
    out of the fit, and the table's notes say so. The targets must be of held-out data.

    Args:
        over: the column m, the size of the training set.
        target: the column to predict.
        best_guess: the target of a model that knows only the base rates, such as log of the number of classes; left
            out, a flat stretch at the smallest sizes is looked for.
        noise: relative noise of the target.
    """

    name = "hestness"
    title = "error from the size of the training set, beyond the small-data region"
    formula = "epsilon = alpha m^beta_g + gamma"
    source = "Hestness et al., 2017, arXiv 1712.00409"
    parameters: ClassVar = (
        Parameter("alpha", "target x m^-beta_g", 1e-12, 1e60, "log"),
        Parameter("beta_g", "exponent", -3.0, -1e-3),
        Parameter("gamma", "target", 1e-8, 1e6, "log"),
    )
    floor = "gamma"

    def __init__(
        self, over: str = "tokens", target: str = "loss", *, best_guess: float | None = None, noise: float = PRIOR_NOISE
    ) -> None:
        super().__init__(over, target)
        self.best_guess, self.noise = best_guess, noise

    def table(self, table: Table, *, target: bool = True) -> Table:
        """Return the checked table; with the target, without the rows of the small-data region.

        Raises:
            SoonerError: a column is missing, a value is not positive, or every row is a best guess.
        """
        table = super().table(table, target=target)
        if not target or any(note.startswith("small-data region") for note in table.notes):
            return table
        edge, level = self._small_data(table)
        kept = table[self.over] > edge
        if kept.all():
            return table
        if not kept.any():
            raise SoonerError(
                f"every {self.target} is within noise of the best guess {level:.4g}: nothing was learned yet; "
                f"add rows with more {self.over}"
            )
        return table.where(kept).with_notes(
            f"small-data region: {int((~kept).sum())} rows up to {self.over} = {edge:.4g} are within noise of the best "
            f"guess ({self.target} {level:.4g}) and were left out"
        )

    def _small_data(self, table: Table) -> tuple[float, float]:
        """Return the largest size at which the model still guesses (0 if none), and the level of the guess."""
        sizes, which = np.unique(table[self.over], return_inverse=True)
        logs = np.bincount(which, np.log(table[self.target])) / np.bincount(which)
        if self.best_guess is not None:
            learned = np.flatnonzero(logs < np.log(self.best_guess) - self.noise)
            count = int(learned[0]) if learned.size else len(sizes)
            return (float(sizes[count - 1]) if count else 0.0), self.best_guess
        x = np.log(sizes)
        for count in range(len(sizes) - len(self.parameters), 1, -1):
            level, steepness = float(np.median(logs[:count])), -_slope(x[count:], logs[count:])
            expected = steepness * (x[count - 1] - x[0])
            seen = -_slope(x[:count], logs[:count]) * (x[count - 1] - x[0])
            sure = min(expected, steepness * (x[-1] - x[count])) > _SURE * self.noise
            # a power law with a floor is steepest at its beginning; only a best guess makes the beginning flatter
            if sure and abs(seen) < _FLAT * expected and np.abs(logs[:count] - level).max() < _WITHIN * self.noise:
                return float(sizes[count - 1]), float(np.exp(level))
        return 0.0, float("nan")

    def starts(self, table: Table) -> FloatArray:
        """Return floors just below the smallest target, and slopes from shallow to steep."""
        low, size = float(table[self.target].min()), float(table[self.over].max())
        floor, amount, exponent = grid([0.2, 0.5, 0.8, 0.97], [0.01, 0.1, 0.4], [-0.05, -0.15, -0.35, -0.8, -1.5]).T
        return np.stack([amount * low * size**-exponent, exponent, floor * low], 1)

    def prepare(self, table: Table) -> FloatArray:
        """Return log m."""
        return np.log(table[self.over])

    def predict(self, values: FloatArray, data: FloatArray) -> FloatArray:
        """Return the error for log m."""
        amount, exponent, floor = unpack(values)
        return floor + np.exp(np.log(amount) + exponent * data)


def _slope(x: FloatArray, y: FloatArray) -> float:
    return float(np.polyfit(x, y, 1)[0])


def data_for(values: FloatArray, target: npt.ArrayLike) -> FloatArray:
    """Return m = ((epsilon - gamma) / alpha)^(1 / beta_g): the training-set size for a target error.

    Args:
        values: (..., 3) parameters of `Hestness`.
        target: (n,) or a number, above the irreducible error.

    Returns:
        (..., n); infinite for draws whose irreducible error is above the target.

    Raises:
        SoonerError: no draw of the parameters reaches the target.
    """
    amount, exponent, floor = np.moveaxis(np.asarray(values)[..., None], -2, 0)
    left = np.asarray(target, dtype=np.float64) - floor
    if not np.any(left > 0):
        raise SoonerError(
            f"no amount of data reaches {np.min(target):.4g}: the irreducible error is {np.min(floor):.4g}"
        )
    safe = np.where(left > 0, left, 1.0)
    return np.where(left > 0, (safe / amount) ** (1 / exponent), np.inf)


@dataclass(frozen=True)
class Regions:
    """Where the power law holds: from the small-data region to where the irreducible error is half of all."""

    begins: float
    ends: float


def regions(fit: Fit) -> Regions:
    """Return the sizes between which a fitted `Hestness` is a power law, in the unit of the law's column.

    Args:
        fit: of this law; it begins where its first row is that was not left out.
    """
    ends = (fit["gamma"] / fit["alpha"]) ** (1 / fit["beta_g"])
    return Regions(float(fit.table[fit.law.over].min()), float(ends))


@dataclass(frozen=True)
class ModelSize:
    """s(m) = amount x m^beta_p: how large the best model is for a training set of size m."""

    amount: float
    beta_p: float

    def at(self, examples: npt.ArrayLike) -> FloatArray:
        """Return the best model sizes for these training-set sizes, of the same shape."""
        made: FloatArray = self.amount * np.asarray(examples, dtype=np.float64) ** self.beta_p
        return made


def model_size(table: Table, over: str = "tokens", target: str = "loss") -> ModelSize:
    """Return the law of the best model size, from the model with the lowest target at each training-set size.

    Args:
        table: with parameters, the size of the training set and the target.
        over: the column of the size of the training set.
        target: the column by which models are compared.

    Raises:
        SoonerError: a column is missing, or there are fewer than two sizes of the training set.
    """
    table = table.require("parameters", over, target)
    sizes = np.unique(table[over])
    if len(sizes) < 2:
        raise SoonerError(f"the law of model size needs two or more values of {over}; there is {len(sizes)}")
    order = np.argsort(table[target], kind="stable")
    _, first = np.unique(table[over][order], return_index=True)
    best = table["parameters"][order][first]
    exponent, intercept = np.polyfit(np.log(sizes), np.log(best), 1)
    return ModelSize(float(np.exp(intercept)), float(exponent))
