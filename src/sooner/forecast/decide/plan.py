"""Which runs to buy next: those that narrow the band of a forecast most for their cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.fitted import LEVEL, Fit, link
from sooner.forecast.table import FLOP_PER_PARAMETER_AND_TOKEN, FloatArray, Table
from sooner.forecast.table import table as make

MOST = 12
"""Runs bought at most."""


@dataclass(frozen=True)
class Purchase:
    """One run to buy.

    Args:
        at: its columns.
        cost: in FLOP, or in the unit of the costs given.
        band: half the width of the band at the target after it, relative where the law's residuals are.
    """

    at: dict[str, float]
    cost: float
    band: float


@dataclass(frozen=True)
class Plan:
    """Runs to buy, in order.

    Args:
        band: half the width of the band at the target now.
        goal: what it should become.
        runs: what to buy.
        cost: of all of them.
        reached: whether they are expected to reach the goal.
        share_of_noise: part of the band now that no run narrows: the deviation of a single run from the law.
    """

    band: float
    goal: float
    runs: list[Purchase]
    cost: float
    reached: bool
    share_of_noise: float


def plan(
    fit: Fit,
    target: Table,
    *,
    possible: Table | None = None,
    costs: FloatArray | None = None,
    goal: float = 0.5,
    budget: float = np.inf,
    level: float = LEVEL,
) -> Plan:
    """Choose runs greedily by the expected narrowing of the band of the law at the target, per cost.

    The draws of the fit are taken as a Gaussian belief about all predictions at once; a run at x with noise s^2 then
    lowers the variance at the target by cov(x, target)^2 / (var(x) + s^2), whatever it will show. (Linear Bayesian
    experimental design; Chaloner and Verdinelli, 1995.)

    Args:
        fit: what is known now.
        target: one row, where the forecast matters.
        possible: rows that could be bought; left out, a grid over the range measured and up to four times beyond it.
        costs: (n,) of the possible rows; 6 N D where left out.
        goal: share of today's band that the plan aims at.
        budget: cost of all runs at most.
        level: of the band.

    Raises:
        SoonerError: no possible rows, a goal outside 0 to 1, or no costs for a law without parameters and tokens.
    """
    from scipy.stats import norm

    if not 0 < goal < 1:
        raise SoonerError(f"the goal is {goal:g} of today's band; give a share between 0 and 1, such as 0.5")
    if len(target) != 1:
        raise SoonerError(f"a plan is for one target, and there are {len(target)}; give one")
    rows = _possible(fit, target) if possible is None else possible
    price = _costs(rows) if costs is None else np.asarray(costs, dtype=np.float64)
    affordable = np.flatnonzero(price <= budget)
    if not affordable.size:
        raise SoonerError(f"no possible run costs less than the budget of {budget:.3g}; raise it")
    rows, price = rows.where(affordable), price[affordable]
    made = np.concatenate([_law(fit, rows), _law(fit, target)], axis=1)
    made = made[np.isfinite(made).all(axis=1)]
    cover = np.cov(made, rowvar=False)
    noise = float(np.median(fit.noise) ** 2)
    width = float(norm.ppf((1 + level) / 2))
    start = width * float(np.sqrt(cover[-1, -1]))
    bought: list[Purchase] = []
    spent, band = 0.0, start
    while band > goal * start and len(bought) < MOST:
        gain = cover[-1, :-1] ** 2 / (np.diag(cover)[:-1] + noise)
        worth = np.where(spent + price <= budget, gain / price, -np.inf)
        # the cheapest run is the best bargain and may never get there: only runs that help noticeably count
        worth = np.where(gain >= 0.1 * np.max(gain), worth, -np.inf)
        k = int(np.argmax(worth))
        if not np.isfinite(worth[k]):
            break
        cover = cover - np.outer(cover[:, k], cover[:, k]) / (cover[k, k] + noise)
        spent += float(price[k])
        band = width * float(np.sqrt(max(cover[-1, -1], 0.0)))
        at = {name: float(rows[name][k]) for name in rows.columns if name in fit.law.needs}
        bought.append(Purchase(at, float(price[k]), band))
    share = noise / (noise + (start / width) ** 2)
    return Plan(start, goal * start, bought, spent, band <= goal * start, float(share))


def _law(fit: Fit, rows: Table) -> FloatArray:
    prepared = fit.law.prepare(fit.law.table(rows, target=False))
    with np.errstate(all="ignore"):
        return link(fit.law, fit.law.predict(fit.draws, prepared))


def _possible(fit: Fit, target: Table) -> Table:
    """Return a grid in the law's columns: from the smallest measured to four times the largest, short of the target."""
    axes = []
    for name in fit.law.needs:
        seen = fit.table[name]
        high = min(4 * float(seen.max()), float(target.require(name)[name][0]))
        low = min(float(seen.min()), high)
        axes.append(np.geomspace(low, high, 9) if len(fit.law.needs) < 3 else np.geomspace(low, high, 5))
    mesh = np.meshgrid(*axes, indexing="ij")
    return make(**{name: one.ravel() for name, one in zip(fit.law.needs, mesh, strict=True)})


def _costs(rows: Table) -> FloatArray:
    if "compute" in rows:
        return rows["compute"]
    if "parameters" in rows and "tokens" in rows:
        return FLOP_PER_PARAMETER_AND_TOKEN * rows["parameters"] * rows["tokens"]
    if len(rows.columns) == 1:
        return next(iter(rows.columns.values()))  # in units of the one quantity, such as tokens
    raise SoonerError(f"runs in {', '.join(rows.columns)} have no cost by themselves; give costs, one per row")
