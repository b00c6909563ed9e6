"""Best model sizes from parabolas at equal compute, the power laws through them, and how biased the method is here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.decide.allocate import split
from sooner.forecast.fitted import LEVEL, Fit
from sooner.forecast.laws.chinchilla import Chinchilla
from sooner.forecast.table import FLOP_PER_PARAMETER_AND_TOKEN, FloatArray, Table

SAME = 0.15
"""Runs whose compute differs by less than this, in logarithm, belong to one level."""


@dataclass(frozen=True)
class Level:
    """One level of compute.

    Args:
        compute: training FLOP, the geometric mean of the runs.
        parameters: best model size.
        loss: there.
        runs: number of runs.
        inside: whether the best size lies among the sizes measured.
    """

    compute: float
    parameters: float
    loss: float
    runs: int
    inside: bool


@dataclass(frozen=True)
class IsoFlop:
    """The power law N = amount x C^exponent through the levels whose best size was measured around.

    Args:
        levels: by compute.
        exponent: of compute in the best size.
        low: lower end of its band.
        high: upper end.
        amount: the factor.
        warnings: why to doubt it.
    """

    levels: list[Level]
    exponent: float
    low: float
    high: float
    amount: float
    warnings: tuple[str, ...]

    def parameters(self, compute: float) -> float:
        """Return the best model size for a budget in FLOP."""
        return float(self.amount * compute**self.exponent)


def isoflop(table: Table, *, draws: int = 500, seed: int = 0, level: float = LEVEL) -> IsoFlop:
    """Fit a parabola of the loss in log N at every level of compute, and a power law through their lowest points.

    Hoffmann et al., 2022, arXiv 2203.15556, approach 2.

    Args:
        table: parameters, compute (or tokens) and loss.
        draws: bootstrap refits over the runs of each level.
        seed: of the resampling.
        level: of the band.

    Raises:
        SoonerError: fewer than two levels with three sizes each, or none of them has its best size inside.
    """
    table = table.require("parameters", "compute", "loss")
    groups = [rows for rows in _levels(table) if len(np.unique(table["parameters"][rows])) >= 3]
    if len(groups) < 2:
        raise SoonerError(
            f"there {'is' if len(groups) == 1 else 'are'} {len(groups)} level{'s' * (len(groups) != 1)} of compute "
            "with three or more model sizes; parabolas need two or more levels"
        )
    x, y = np.log(table["parameters"]), table["loss"]
    compute = np.array([np.exp(np.mean(np.log(table["compute"][rows]))) for rows in groups])
    levels, warnings = [], []
    for one, rows in zip(compute, groups, strict=True):
        best, loss = _lowest(x[rows], y[rows])
        inside = bool(x[rows].min() <= best <= x[rows].max())
        levels.append(Level(float(one), float(np.exp(best)), float(loss), len(rows), inside))
        if not inside:
            warnings.append(f"at {one:.3g} FLOP the best size lies outside the sizes measured: the level is left out")
    kept = [k for k, one in enumerate(levels) if one.inside]
    if len(kept) < 2:
        raise SoonerError("fewer than two levels have their best size among the sizes measured; add sizes")
    logs = np.log(compute[kept])
    exponent, offset = np.polyfit(logs, np.log([levels[k].parameters for k in kept]), 1)
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        again = [rows[random.integers(len(rows), size=len(rows))] for rows in (groups[k] for k in kept)]
        if all(len(np.unique(x[rows])) >= 3 for rows in again):
            lows = [_lowest(x[rows], y[rows])[0] for rows in again]
            drawn.append(np.polyfit(logs, lows, 1)[0])
    finite = np.array([one for one in drawn if np.isfinite(one)] or [exponent])
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return IsoFlop(levels, float(exponent), float(low), float(high), float(np.exp(offset)), tuple(warnings))


def parabola_bias(fit: Fit, table: Table) -> tuple[float, float]:
    """Return the exponent that parabolas would find on this law's own losses at the table's sizes, and the true one.

    A parabola is symmetric in log N, the loss is not, and grids off their centre turn that into a bias (Czech et al.,
    2026, and the trap named in Besiroglu et al., 2024). The difference of the two numbers is the bias of the method on
    this grid, free of noise.

    Args:
        fit: of `Chinchilla`.
        table: parameters and compute of the runs.

    Raises:
        SoonerError: the fit is of another law, or the table has too few levels.
    """
    if not isinstance(fit.law, Chinchilla):
        raise SoonerError(f"the bias of parabolas is known for the law chinchilla, not for {fit.law.name}")
    table = table.require("parameters", "compute")
    tokens = table["compute"] / (FLOP_PER_PARAMETER_AND_TOKEN * table["parameters"])
    clean = table.plus(tokens=tokens)
    found = isoflop(clean.plus(loss=fit.at(clean)), draws=1)
    low, high = min(table["compute"]), max(table["compute"])
    sizes = [split(fit.values[None], one)[0][0] for one in (low, high)]
    return found.exponent, float(np.log(sizes[1] / sizes[0]) / np.log(high / low))


def _levels(table: Table) -> list[np.ndarray[tuple[int], np.dtype[np.intp]]]:
    logs = np.log(table["compute"])
    order = np.argsort(logs, kind="stable")
    breaks = np.flatnonzero(np.diff(logs[order]) > SAME) + 1
    return list(np.split(order, breaks))


def _lowest(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Return where a parabola through the points is lowest, and its value; infinite where it opens downwards."""
    middle = x.mean()
    bend, slope, level = np.polyfit(x - middle, y, 2)
    if bend <= 0:
        return float(np.inf), float(y.min())
    return float(middle - slope / (2 * bend)), float(level - slope**2 / (4 * bend))
