"""What fitting a law gives: parameters with draws, and predictions with a band and with what to doubt about them."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.bands.usual import Kind, Scores, half_width
from sooner.forecast.formula import Formula
from sooner.forecast.table import FloatArray, Table

LEVEL = 0.9
FAR = 10.0
"""Beyond this multiple of the largest fitted value a target counts as far."""
TINY = 1e-300
VALLEY = "the objective is flat"
"""Words of a doubt that is told only where it moves the forecast."""
FLAT = 0.01
"""Starts whose objective is within this fraction of the best count as equally good."""
FAINT = 1e-3
"""Forecasts that differ by less, in logarithm, are the same: seeds differ as much."""
WIDEST = 7.0
"""Bands reach at most so far to either side, in the logarithm: a factor of a thousand."""


@dataclass(frozen=True)
class Prediction:
    """Predicted values with a band.

    Args:
        value: (n,) the law at its best fit.
        low: (n,) lower end of the band.
        high: (n,) upper end.
        level: share of future runs that the band is meant to cover.
        warnings: why to doubt it, in sentences.
    """

    value: FloatArray
    low: FloatArray
    high: FloatArray
    level: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Estimate:
    """A fitted parameter with its interval and unit."""

    name: str
    value: float
    low: float
    high: float
    unit: str


@dataclass(frozen=True)
class Fit:
    """A law fitted to a table.

    Args:
        law: the law.
        table: what it was fitted on.
        values: (p,) parameters.
        objective: sum of Huber losses at the best start.
        ends: (k,) objectives of all starts.
        ends_values: (k, p) their parameters.
        draws: (b, p) parameters of refits.
        noise: standard deviation of a run about the law, per draw (b,), in units of the residual.
        how: how the draws were made, in words.
        warnings: what to doubt about the fit, in sentences.
        seed: of the noise in samples.
        scores: how far off the law was beyond earlier ends of these rows; None where that was not tried.
    """

    law: Formula
    table: Table
    values: FloatArray
    objective: float
    ends: FloatArray
    ends_values: FloatArray
    draws: FloatArray
    noise: FloatArray
    how: str
    warnings: tuple[str, ...] = ()
    seed: int = 0
    scores: Scores | None = None

    def estimates(self, level: float = LEVEL) -> list[Estimate]:
        """Return every parameter with the interval of its draws."""
        low, high = np.quantile(self.draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return [
            Estimate(parameter.name, float(v), float(a), float(b), parameter.unit)
            for parameter, v, a, b in zip(self.law.parameters, self.values, low, high, strict=True)
        ]

    def __getitem__(self, name: str) -> float:
        """Return a parameter by name."""
        return float(self.values[[parameter.name for parameter in self.law.parameters].index(name)])

    def at(self, table: Table) -> FloatArray:
        """Return (n,) predictions of the best fit, without a band."""
        table = self.law.table(table, target=False)
        made: FloatArray = self.law.predict(self.values[None], self.law.prepare(table))[0]
        return made

    def drawn(self, table: Table) -> FloatArray:
        """Return (b, n) predictions of every draw, without noise."""
        table = self.law.table(table, target=False)
        with np.errstate(all="ignore"):
            made: FloatArray = self.law.predict(self.draws, self.law.prepare(table))
        return made

    def sample(self, table: Table) -> FloatArray:
        """Return (b, n) predictions of every draw, with the noise of a run: one deviation per run and draw."""
        made = self.drawn(table)
        random = np.random.default_rng(self.seed + 1)
        _, which = np.unique(table.run, return_inverse=True)
        shock = random.standard_normal((len(self.draws), which.max(initial=-1) + 1))[:, which] * self.noise[:, None]
        if self.law.link == "identity" and self.law.target != "loss":
            return made + shock
        if self.law.link == "identity":  # of a loss, which stays positive
            shock = shock / np.maximum(made, TINY)
        return made * np.exp(shock)

    def predict(self, table: Table, level: float = LEVEL) -> Prediction:
        """Return predictions with a band: parameter draws, deviation of a run from the law, seed noise.

        Beyond the fitted rows a band of losses is at least as wide as forecasts that far usually need; see
        `sooner.forecast.bands.usual`.

        Raises:
            SoonerError: a column that the law needs is missing.
        """
        made = self.sample(table)
        made = np.where(np.isfinite(made), made, np.nan)
        low, high = np.nanquantile(made, [(1 - level) / 2, (1 + level) / 2], axis=0)
        value = self.at(table)
        low, high = np.minimum(low, value), np.maximum(high, value)
        if self.law.target == "loss" and self.law.toward == "large":
            factor, change = reach(self, table)
            kind: Kind = "schedule" if "lr" in self.law.needs else "scale"
            usual = half_width(kind, factor, level, self.scores) * change
            noise = NormalDist().inv_cdf((1 + level) / 2) * scatter(self)
            wide = np.exp(np.where(factor > 1, np.minimum(np.hypot(usual, noise), WIDEST), 0.0))
            low, high = np.minimum(low, value / wide), np.maximum(high, value * wide)
        return Prediction(value, low, high, level, target_warnings(self, table))

    def residuals(self) -> FloatArray:
        """Return (n,) residuals on the fitted rows: log of fitted over measured, or their difference."""
        return link(self.law, self.at(self.table)) - link(self.law, self.table[self.law.target])


def link(law: Formula, target: FloatArray) -> FloatArray:
    """Return the scale on which residuals are taken."""
    if law.link == "identity":
        return target
    with np.errstate(all="ignore"):
        return np.log(np.maximum(target, 1e-300))


def reach(fit: Fit, at: Table) -> tuple[FloatArray, FloatArray]:
    """Return how many times the largest fitted value of `over` each row lies at, and the change forecast from there.

    The change is of the logarithm, between the row and the same row so many times smaller: parameters and tokens by the
    root of it each where the law's scale is compute. In a single quantity it is at least as the law falls at its end.
    Of a schedule it is the change from the same schedule in as many steps as were fitted, row by row.
    """
    law, known = fit.law, fit.table
    try:
        reached, asked = known.require(law.over)[law.over], at.require(law.over, *law.needs)
    except SoonerError:
        return np.ones(len(at)), np.zeros(len(at))
    factor = np.maximum(asked[law.over] / float(reached.max()), 1.0)
    alone = law.over in law.needs
    shrunk = {name: asked[name] / factor for name in (law.over,) if alone}
    shrunk |= {name: asked[name] / np.sqrt(factor) for name in ("parameters", "tokens") if not alone and name in asked}
    if "lr" in law.needs:
        shrunk = {"step": asked["step"] / factor.max(initial=1.0)}
    before = np.log(np.maximum(fit.at(asked.plus(**shrunk)), TINY))
    change = np.abs(np.log(np.maximum(fit.at(at), TINY)) - before)
    if law.needs == (law.over,):
        logs = np.log(np.maximum(fit.at(known), TINY))
        change = np.maximum(change, _fall(np.log(reached), logs) * np.log(factor))
    return factor, np.where(factor > 1, change, 0.0)


def scatter(fit: Fit) -> float:
    """Return the root of the mean squared residual of the fitted rows, in logarithm."""
    rows = fit.table.where(fit.law.weights(fit.table) > 0)
    apart = np.log(np.maximum(fit.at(rows), TINY)) - np.log(rows[fit.law.target])
    return float(np.sqrt(np.mean(apart**2)))


def _fall(x: FloatArray, logs: FloatArray) -> float:
    """Return by how much the fitted law falls per e-fold at its end: between the last row and half of it."""
    last = int(np.argmax(x))
    before = np.flatnonzero(x <= x[last] - np.log(2))
    first = int(before[np.argmax(x[before])]) if before.size else int(np.argmin(x))
    return abs(float(logs[last] - logs[first])) / max(float(x[last] - x[first]), float(np.log(1.1)))


def moving(fit: Fit, at: Table) -> tuple[str, ...]:
    """Return the doubts about a fit, without that of a flat valley where all its starts say the same of these rows."""
    ends = fit.ends_values[fit.ends <= fit.objective * (1 + FLAT) + 1e-12]
    if len(ends) < 2 or not any(VALLEY in told for told in fit.warnings):
        return fit.warnings  # an average of laws keeps one end, which says nothing
    with np.errstate(all="ignore"):
        made = np.log(np.maximum(fit.law.predict(ends, fit.law.prepare(fit.law.table(at, target=False))), TINY))
    if not float(np.max(np.ptp(made, axis=0))) <= FAINT:
        return fit.warnings
    return tuple(told for told in fit.warnings if VALLEY not in told)


def target_warnings(fit: Fit, at: Table) -> tuple[str, ...]:
    """Return what to doubt about a prediction at these rows, the doubts about the fit included."""
    over, told = fit.law.over, moving(fit, at)
    try:
        reached, asked = fit.table.require(over)[over], at.require(over)[over]
    except ValueError:
        return told
    down = fit.law.toward == "small"
    edge, goal = (reached.min(), asked.min()) if down else (reached.max(), asked.max())
    times = edge / goal if down else goal / edge
    if times <= FAR:
        return told
    far = f"1/{times:.0f} of the smallest" if down else f"{times:.0f} times the largest"
    return (
        *told,
        f"the target's {over} {goal:.3g} is {far} fitted ({edge:.3g}); beyond {FAR:.0f} times, bands are a guess",
    )
