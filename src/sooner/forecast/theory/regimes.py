"""Which of four regimes a scaling exponent belongs to, and the intrinsic dimension that sets the slow ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.spatial import cKDTree

from sooner.error import SoonerError
from sooner.forecast.fit import fit
from sooner.forecast.fitted import LEVEL
from sooner.forecast.laws.power_floor import PowerFloor
from sooner.forecast.table import FloatArray, Table

Limit = Literal["variance-limited", "resolution-limited", "undecided"]


@dataclass(frozen=True)
class Regime:
    """What limits the loss along one resource.

    Args:
        over: the resource.
        limit: variance-limited (exponent 1) or resolution-limited (below 1), undecided where the band holds both.
        exponent: of the loss above its floor.
        low: lower end of its band.
        high: upper end.
        dimension: intrinsic dimension that the exponent speaks of by 4 / exponent; None unless resolution-limited.
    """

    over: str
    limit: Limit
    exponent: float
    low: float
    high: float
    dimension: float | None


def regime(table: Table, over: str, *, level: float = LEVEL, draws: int = 400, seed: int = 0) -> Regime:
    """Return the regime along one resource, the others held fixed.

    Bahri et al., 2021, arXiv 2102.06701. L - L_inf falls as 1 / D (or 1 / width) where the other resource leaves a
    smooth limit, and as D^-alpha with alpha about 4 / d where data or model must resolve a manifold of dimension d.
    There are two regimes for each of two resources, hence four.

    Args:
        table: the resource and the loss.
        over: such as tokens, width or parameters.
        level: of the band.
        draws: refits.
        seed: of the resampling.

    Raises:
        SoonerError: fewer than three values of the resource.
    """
    table = table.require(over, "loss")
    if len(np.unique(table[over])) < 3:
        raise SoonerError(f"a regime needs three or more values of {over}; there are {len(np.unique(table[over]))}")
    found = fit(PowerFloor(over), table, draws=draws, seed=seed)
    exponents = found.draws[:, 2]
    low, high = np.quantile(exponents, [(1 - level) / 2, (1 + level) / 2])
    limit: Limit = "undecided"
    if high < 0.95:
        limit = "resolution-limited"
    elif low > 0.8 and high < 1.25:
        limit = "variance-limited"
    value = found["alpha"]
    return Regime(over, limit, value, float(low), float(high), 4 / value if limit == "resolution-limited" else None)


def intrinsic_dimension(points: FloatArray, *, discard: float = 0.1) -> tuple[float, float]:
    """Return the intrinsic dimension of points and its standard error, from the ratio of two nearest distances.

    TwoNN (Facco et al., 2017, arXiv 1803.06992): with mu = r2 / r1, log mu is exponential with rate d; the largest
    ratios are censored at their smallest, so that outliers do not decide.

    Args:
        points: (n, features); duplicates count once.
        discard: share of the largest ratios that is censored.

    Raises:
        SoonerError: fewer than ten different points, or a share outside 0 to 1.
    """
    if not 0 <= discard < 1:
        raise SoonerError(f"the share to discard is {discard:g}; give 0 to less than 1")
    points = np.unique(np.asarray(points, dtype=np.float64), axis=0)
    if len(points) < 10:
        raise SoonerError(f"there are {len(points)} different points; an intrinsic dimension needs ten or more")
    distance = np.asarray(cKDTree(points).query(points, k=3)[0])
    ratios = np.sort(np.log(distance[:, 2] / distance[:, 1]))
    kept = max(int(len(ratios) * (1 - discard)), 2)
    total = ratios[:kept].sum() + (len(ratios) - kept) * ratios[kept - 1]
    dimension = kept / max(float(total), 1e-300)
    return float(dimension), float(dimension / np.sqrt(kept))
