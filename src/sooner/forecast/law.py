"""What a law is: a formula that fits itself to a table, and says what to doubt about its own fits."""

from __future__ import annotations

from dataclasses import replace

from sooner.forecast.fit import fit_one
from sooner.forecast.fitted import Fit
from sooner.forecast.formula import Formula
from sooner.forecast.table import Table


class Law(Formula):
    """A formula that can be fitted. A subclass gives the class attributes of `Formula`, `starts` and `predict`."""

    def doubts(self, fit: Fit) -> list[str]:
        """Return what to doubt about a fit of this law in particular, in sentences."""
        return []

    def fit(self, table: Table, *, draws: int = 200, seed: int = 0) -> Fit:
        """Fit the law from all its starts; see `sooner.forecast.fit.fit`."""
        made = fit_one(self, table, draws=draws, seed=seed)
        return replace(made, warnings=tuple(dict.fromkeys([*made.warnings, *self.doubts(made)])))
