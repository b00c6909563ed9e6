"""What a law says: parameters with units and bounds, starts, and one vectorised formula. Everything else is shared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from sooner.error import SoonerError
from sooner.forecast.table import FloatArray, Table

FITTED = "fitted"
"""A column of ones and zeros: rows with zero take no part in a fit, though laws read their learning rates."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of a law.

    Args:
        name: as in the formula.
        unit: what it is measured in.
        low: smallest value allowed.
        high: largest value allowed.
        scale: "log" for what is positive and spans decades: it is fitted, and its bounds hold, on the logarithm.
    """

    name: str
    unit: str
    low: float
    high: float
    scale: Literal["log", "linear"] = "linear"


@dataclass(frozen=True)
class Prior:
    """What is believed of a parameter before the rows are seen, as one more row of the fit.

    Args:
        name: of the parameter.
        centre: of the belief, in the parameter's own units.
        deviation: of its logarithm, where the parameter's scale is "log".
        noise: deviation of a row about the law, on the scale of residuals: how much the rows say is measured by it.
    """

    name: str
    centre: float
    deviation: float
    noise: float


class Formula(ABC):
    """A formula with parameters. A subclass gives the class attributes, `starts` and `predict`; see `Law`.

    Attributes:
        name: as typed on the command line.
        title: one line.
        formula: as in the paper, plain text.
        source: "Authors, year, arXiv number".
        needs: columns that the formula reads.
        target: column that it predicts.
        link: residuals are of the logarithm of the target, or of the target itself.
        delta: where Huber's loss of a residual turns linear; infinite for least squares.
        parameters: in the order of the arrays.
        over: the column along which the largest values are left out by a check and beyond which a target is far.
        toward: which end of `over` is forecast: large budgets, or small losses.
        floor: the parameter that is the irreducible part of the target, if there is one.
        prior: a belief about one parameter, if there is one.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    target: ClassVar[str] = "loss"
    link: ClassVar[Literal["log", "identity"]] = "log"
    delta: ClassVar[float] = 1e-3
    parameters: ClassVar[tuple[Parameter, ...]]
    over: ClassVar[str] = "compute"
    toward: ClassVar[Literal["large", "small"]] = "large"
    floor: ClassVar[str | None] = None
    prior: Prior | None = None

    @abstractmethod
    def starts(self, table: Table) -> FloatArray:
        """Return (k, p) parameters to start from, for this table."""

    @abstractmethod
    def predict(self, values: FloatArray, data: Any) -> FloatArray:
        """Return (k, n) targets for (k, p) parameters and what `prepare` made of a table of n rows."""

    @abstractmethod
    def fit(self, table: Table, *, draws: int = 200, seed: int = 0) -> Any:
        """Return the `Fit` to a table; what that is stands above formulas, so its type is told by `Law` only."""

    def prepare(self, table: Table) -> Any:
        """Return what `predict` needs of a table, computed once; the table itself by default."""
        return table

    def table(self, table: Table, *, target: bool = True) -> Table:
        """Return the table with the columns that this law needs, checked.

        Raises:
            SoonerError: a column is missing, or a value is not finite or not positive where it must be.
        """
        table = table.require(*self.needs, *((self.target,) if target else ()))
        for name in (*self.needs, *((self.target,) if target else ())):
            column = table[name]
            positive = name != "lr" and name != "step" and (name != self.target or self.link == "log")
            bad = ~np.isfinite(column) | ((column <= 0) if positive else np.zeros(len(column), dtype=np.bool_))
            if bad.any():
                row = int(np.flatnonzero(bad)[0])
                raise SoonerError(
                    f"{name} is {column[row]:g} in row {row + 1} of the table (run {table.run[row]}); {self.name} "
                    f"needs {'positive' if positive else 'finite'} numbers there: mend or drop the row"
                )
        return table

    def holds(self, table: Table) -> npt.NDArray[np.bool_]:
        """Return (n,) in which rows the law may be held to its word: by default those that are to be fitted."""
        return table[FITTED] > 0 if FITTED in table else np.ones(len(table), dtype=np.bool_)

    def weights(self, table: Table) -> FloatArray:
        """Return (n,) weights of the rows in a fit; all alike by default, but for rows that are not to be fitted."""
        return table[FITTED] if FITTED in table else np.ones(len(table))


def unpack(values: FloatArray) -> Iterator[FloatArray]:
    """Yield each parameter of (k, p) as a column (k, 1), which broadcasts against rows (n,)."""
    return (values[:, i, None] for i in range(values.shape[1]))


def grid(*choices: tuple[float, ...] | list[float] | FloatArray) -> FloatArray:
    """Return (k, p): every combination of the values given for each parameter."""
    return np.array(list(product(*choices)), dtype=np.float64)
