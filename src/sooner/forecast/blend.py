"""Several laws at once: their mean, weighted by how well each predicted what was left out.

With three curves, leaving one out tells laws apart no better than two seeds of one run differ, and taking the winner
takes the luckiest. So the laws are averaged: share_i ~ 1 / (error_i^2 + noise^2), the weights of Bates and Granger
(1969, Operational Research Quarterly 20, 451) for forecasts whose errors are independent, where no error counts as
smaller than the noise of a seed. Bands are those of the laws in the same shares, so they widen where the laws disagree.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sooner.forecast.check import Leave, left_out_errors
from sooner.forecast.diagnose import BOUND, FLOOR
from sooner.forecast.fit import SEED_NOISE
from sooner.forecast.fitted import Fit
from sooner.forecast.formula import Parameter
from sooner.forecast.law import Law
from sooner.forecast.table import FloatArray, Table

SAID = 0.1
"""Laws with a smaller share than this keep their warnings to themselves."""


class Blend(Law):
    """The mean of laws with one target, each fitted on its own.

    Args:
        laws: two or more, all of the same columns.
        shares: (k,) their weights; they are scaled to sum to one.
    """

    title = "mean of several laws"
    source = "Bates and Granger, 1969, Operational Research Quarterly 20"

    def __init__(self, laws: list[Law], shares: FloatArray) -> None:
        order = np.argsort(-shares, kind="stable")
        self.laws: list[Law] = [laws[k] for k in order]
        self.shares: FloatArray = shares[order] / shares.sum()
        first = self.laws[0]
        shown = list(zip((law.name for law in self.laws), self.shares.tolist(), strict=True))
        self.name = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shown)  # type: ignore[misc]
        self.formula = " + ".join(f"{share:.2f} {name}" for name, share in shown)  # type: ignore[misc]
        self.needs, self.target, self.link = first.needs, first.target, first.link  # type: ignore[misc]
        self.over, self.toward, self.delta = first.over, first.toward, first.delta  # type: ignore[misc]
        every = [Parameter(f"{law.name} share", "share", 0.0, 1.0) for law in self.laws]
        for law in self.laws:
            every += [Parameter(f"{law.name} {p.name}", p.unit, p.low, p.high, p.scale) for p in law.parameters]
        self.parameters = tuple(every)  # type: ignore[misc]

    def table(self, table: Table, *, target: bool = True) -> Table:
        """Return the table as the laws want it."""
        return self.laws[0].table(table, target=target)

    def holds(self, table: Table) -> npt.NDArray[np.bool_]:
        """Return (n,) the rows in which the laws may be held to their word."""
        return self.laws[0].holds(table)

    def weights(self, table: Table) -> FloatArray:
        """Return (n,) weights of the rows in the laws' fits."""
        return self.laws[0].weights(table)

    def starts(self, table: Table) -> FloatArray:
        """Return (1, p): there is nothing to search, as the laws are fitted one by one."""
        return self.fit(table, draws=2 * len(self.laws)).values[None]

    def prepare(self, table: Table) -> list[Any]:
        """Return what each law needs of a table."""
        return [law.prepare(table) for law in self.laws]

    def predict(self, values: FloatArray, data: list[Any]) -> FloatArray:
        """Return (k, n) means in the shares that the values begin with; a law without a share is not asked."""
        shares, at = values[:, : len(self.laws)], len(self.laws)
        made: list[FloatArray] = []
        for law, own, share in zip(self.laws, data, shares.T, strict=True):
            asked = np.flatnonzero(share > 0)
            part = law.predict(values[asked, at : at + len(law.parameters)], own)
            whole = np.zeros((len(values), part.shape[1]))
            whole[asked] = share[asked, None] * part
            made.append(whole)
            at += len(law.parameters)
        total: FloatArray = np.sum(made, axis=0)
        return total

    def fit(self, table: Table, *, draws: int = 200, seed: int = 0) -> Fit:
        """Fit every law on its own; each gives draws of the bands in proportion to its share."""
        counts = np.maximum(np.round(self.shares * draws).astype(np.intp), 2)
        fits = [law.fit(table, draws=int(count), seed=seed) for law, count in zip(self.laws, counts, strict=True)]
        values = np.concatenate([self.shares, *(one.values for one in fits)])
        drawn, at = np.tile(values, (int(counts.sum()), 1)), len(self.laws)
        drawn[:, :at] = np.repeat(np.eye(at), counts, axis=0)
        rows = np.split(np.arange(len(drawn)), np.cumsum(counts)[:-1])
        for one, own in zip(fits, rows, strict=True):
            drawn[own, at : at + len(one.values)] = one.draws
            at += len(one.values)
        objective = float(self.shares @ [one.objective for one in fits])
        noise = np.concatenate([one.noise for one in fits])
        said = [one for one, share in zip(fits, self.shares, strict=True) if share >= SAID]
        warnings = _together(said)
        ends = np.array([objective])
        kept = fits[0].table
        return Fit(self, kept, values, objective, ends, values[None], drawn, noise, fits[0].how, tuple(warnings), seed)


def _together(fits: list[Fit]) -> list[str]:
    """Return the doubts about several laws, each once.

    That a parameter of one law lies at its bound is not told: the others do not have it, and where they disagree for
    that the band shows it. Floors that are not identified are told in one sentence.
    """
    told: list[str] = []
    floors = [one.law.name for one in fits if any(text.startswith(FLOOR) for text in one.warnings)]
    if floors:
        told.append(f"{FLOOR} is not identified ({', '.join(floors)}): these curves do not say where the loss ends")
    for one in fits:
        for text in one.warnings:
            if BOUND not in text and not text.startswith(FLOOR):
                told.append(f"{one.law.name}: {text}")
    return told


def blend(laws: list[Law], table: Table, leave: Leave | None = None, *, seed: int = 0) -> tuple[Law, dict[str, float]]:
    """Return the laws averaged by their left-out errors, and those errors; a law that can't be fitted takes no part.

    Raises:
        SoonerError: none could be fitted.
    """
    errors = left_out_errors(laws, table, leave, seed=seed)
    kept = [law for law in laws if law.name in errors]
    shares = np.array([1 / (errors[law.name] ** 2 + SEED_NOISE**2) for law in kept])
    return (Blend(kept, shares) if len(kept) > 1 else kept[0]), errors
