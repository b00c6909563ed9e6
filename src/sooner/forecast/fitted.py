"""What fitting a law gives: parameters with draws, and predictions with a band and with what to doubt about them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sooner.forecast.formula import Formula
from sooner.forecast.table import FloatArray, Table

LEVEL = 0.9
FAR = 10.0
"""Beyond this multiple of the largest fitted value a target counts as far."""


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

    def sample(self, table: Table) -> FloatArray:
        """Return (b, n) predictions of every draw, with the noise of a run: one deviation per run and draw."""
        table = self.law.table(table, target=False)
        with np.errstate(all="ignore"):
            made = self.law.predict(self.draws, self.law.prepare(table))
        random = np.random.default_rng(self.seed + 1)
        _, which = np.unique(table.run, return_inverse=True)
        shock = random.standard_normal((len(self.draws), which.max(initial=-1) + 1))[:, which] * self.noise[:, None]
        return made * np.exp(shock) if self.law.link == "log" else made + shock

    def predict(self, table: Table, level: float = LEVEL) -> Prediction:
        """Return predictions with a band: parameter draws, deviation of a run from the law, and seed noise.

        Raises:
            SoonerError: a column that the law needs is missing.
        """
        made = self.sample(table)
        made = np.where(np.isfinite(made), made, np.nan)
        low, high = np.nanquantile(made, [(1 - level) / 2, (1 + level) / 2], axis=0)
        value = self.at(table)
        return Prediction(value, np.minimum(low, value), np.maximum(high, value), level, target_warnings(self, table))

    def residuals(self) -> FloatArray:
        """Return (n,) residuals on the fitted rows: log of fitted over measured, or their difference."""
        return link(self.law, self.at(self.table)) - link(self.law, self.table[self.law.target])


def link(law: Formula, target: FloatArray) -> FloatArray:
    """Return the scale on which residuals are taken."""
    if law.link == "identity":
        return target
    with np.errstate(all="ignore"):
        return np.log(np.maximum(target, 1e-300))


def target_warnings(fit: Fit, at: Table) -> tuple[str, ...]:
    """Return what to doubt about a prediction at these rows, the doubts about the fit included."""
    over = fit.law.over
    try:
        reached, asked = fit.table.require(over)[over], at.require(over)[over]
    except ValueError:
        return fit.warnings
    down = fit.law.toward == "small"
    edge, goal = (reached.min(), asked.min()) if down else (reached.max(), asked.max())
    times = edge / goal if down else goal / edge
    if times <= FAR:
        return fit.warnings
    far = f"1/{times:.0f} of the smallest" if down else f"{times:.0f} times the largest"
    return (
        *fit.warnings,
        f"the target's {over} {goal:.3g} is {far} fitted ({edge:.3g}); beyond {FAR:.0f} times, bands are a guess",
    )
