"""What a law is: a formula that fits itself to a table, and says what to doubt about its own fits."""

from __future__ import annotations

from dataclasses import replace

from sooner.forecast.bands.backtest import of_scale
from sooner.forecast.bands.usual import Scores
from sooner.forecast.fit import fit_one
from sooner.forecast.fitted import Fit
from sooner.forecast.formula import Formula
from sooner.forecast.table import Table

ENOUGH = 10
"""With fewer draws a fit is asked for its values alone."""


class Law(Formula):
    """A formula that can be fitted. A subclass gives the class attributes of `Formula`, `starts` and `predict`."""

    def doubts(self, fit: Fit) -> list[str]:
        """Return what to doubt about a fit of this law in particular, in sentences."""
        return []

    def fit(self, table: Table, *, draws: int = 200, seed: int = 0) -> Fit:
        """Fit the law from all its starts; see `sooner.forecast.fit.fit`."""
        made = fit_one(self, table, draws=draws, seed=seed)
        said = tuple(dict.fromkeys([*made.warnings, *self.doubts(made)]))
        return replace(made, warnings=said, scores=self.tried(made.table, draws))

    def tried(self, table: Table, draws: int) -> Scores | None:
        """Return how far off the law would have been beyond earlier ends of the rows; None where that is not asked.

        Args:
            table: as the law wants it.
            draws: of the fit; with a few there is no band that would be widened.
        """
        asked = draws >= ENOUGH and self.over != "step" and self.target == "loss" and self.toward == "large"
        return of_scale(self, table) if asked else None
