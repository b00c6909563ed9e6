"""The best learning rate and batch size for a model size and a number of tokens, by power laws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.fitted import LEVEL
from sooner.forecast.table import FloatArray, Table

GRID = 0.3
"""Deviation of the logarithm of a grid's best learning rate or batch from the true optimum: grids step by 1.4 to 2."""
APART = 0.1
"""Deviation of an exponent of another set-up from the published one; its own bootstrap interval is 0.03 wide."""


@dataclass(frozen=True)
class PowerRule:
    """log y = offset + sum of exponents times logs of the predictors, with draws of the same.

    Args:
        target: lr or batch.
        over: names of the predictors.
        values: (1 + p,) offset and exponents.
        draws: (b, 1 + p) of refits; (1, 1 + p) for published constants.
    """

    target: str
    over: tuple[str, ...]
    values: FloatArray
    draws: FloatArray

    def at(self, columns: dict[str, float], level: float = LEVEL) -> tuple[float, float, float]:
        """Return the value there with the ends of its band."""
        logs = np.array([1.0, *(np.log(columns[name]) for name in self.over)])
        low, high = np.quantile(self.draws @ logs, [(1 - level) / 2, (1 + level) / 2])
        value = float(self.values @ logs)
        return float(np.exp(value)), float(np.exp(min(low, value))), float(np.exp(max(high, value)))


@dataclass(frozen=True)
class StepLaw:
    """Two power rules: learning rate from parameters and tokens, batch (in tokens) from tokens.

    Li et al., 2025, arXiv 2503.04715: lr = 1.79 N^-0.713 D^0.307, batch = 0.58 D^0.571, for AdamW, a decay to a small
    fixed learning rate, dense and sparse language models of 60M to 1B parameters (N without embeddings).

    Args:
        lr: rule of the learning rate.
        batch: rule of the batch size in tokens.
        fitted: (parameters, tokens) smallest and largest fitted.
    """

    lr: PowerRule
    batch: PowerRule
    fitted: tuple[tuple[float, float], tuple[float, float]]

    def at(
        self, parameters: float, tokens: float
    ) -> tuple[tuple[float, float, float], tuple[float, float, float], list[str]]:
        """Return learning rate and batch with bands, and why to doubt them.

        Raises:
            SoonerError: a number that is not positive.
        """
        for name, value in (("parameters", parameters), ("tokens", tokens)):
            if not (np.isfinite(value) and value > 0):
                raise SoonerError(f"{name} is {value:g}; give a positive number")
        where = {"parameters": parameters, "tokens": tokens}
        told = []
        for (name, value), (low, high) in zip(where.items(), self.fitted, strict=True):
            if not low / 1.01 <= value <= high * 1.01:
                told.append(f"{name} {value:.3g} lies outside the range of the rule, {low:.3g} to {high:.3g}")
        return self.lr.at(where), self.batch.at(where), told


def published() -> StepLaw:
    """Return the rule with the published constants."""
    lr = np.array([np.log(1.79), -0.713, 0.307])
    batch = np.array([np.log(0.58), 0.571])
    return StepLaw(
        PowerRule("lr", ("parameters", "tokens"), lr, lr[None]),
        PowerRule("batch", ("tokens",), batch, batch[None]),
        ((6e7, 1.1e9), (2e9, 1e11)),
    )


def fit_step_law(table: Table, *, draws: int = 500, seed: int = 0) -> StepLaw:
    """Fit both rules to the best learning rates and batches of a grid of (N, D) cells.

    The published exponents are the prior (`published`), from which many or far-spread cells lead away. Where a table
    holds a sweep (several rows of a cell with their losses), the row with the lowest loss counts.

    Args:
        table: parameters, tokens, lr, batch (tokens) and, for sweeps, loss.
        draws: bootstrap refits over cells.
        seed: of the resampling.

    Raises:
        SoonerError: a column is missing, or there are fewer than four cells.
    """
    table = table.require("parameters", "tokens", "lr", "batch")
    cells = np.stack([table["parameters"], table["tokens"]], axis=1)
    _, which = np.unique(cells, axis=0, return_inverse=True)
    which = which.ravel()
    if "loss" in table:
        order = np.lexsort((table["loss"], which))
        _, first = np.unique(which[order], return_index=True)
        table = table.where(order[first])
    if len(table) < 4:
        raise SoonerError(f"the rules need four or more (parameters, tokens) cells; there are {len(table)}")
    random = np.random.default_rng(seed)
    picks = random.integers(len(table), size=(draws, len(table)))
    known = published()
    lr, batch = (_rule(table, one, picks) for one in (known.lr, known.batch))
    sizes, tokens = ((float(table[n].min()), float(table[n].max())) for n in ("parameters", "tokens"))
    return StepLaw(lr, batch, (sizes, tokens))


def _rule(table: Table, known: PowerRule, picks: np.ndarray[tuple[int, int], np.dtype[np.intp]]) -> PowerRule:
    """Return a power rule fitted with the published exponents as prior, the level free (ridge regression).

    A best cell of a grid is known to `GRID`, and another set-up's exponents lie about the published ones by `APART`.
    """
    logs = np.stack([np.log(table[name]) for name in known.over], axis=1)
    y = np.log(table[known.target])

    def fitted(rows: np.ndarray[tuple[int], np.dtype[np.intp]]) -> FloatArray:
        x, middle = logs[rows] - logs[rows].mean(axis=0), logs[rows].mean(axis=0)
        level = float(y[rows].mean())
        prior, pull = known.values[1:], np.eye(x.shape[1]) * (GRID / APART) ** 2
        exponents = np.linalg.solve(x.T @ x + pull, x.T @ (y[rows] - level) + pull @ prior)
        return np.concatenate([[level - middle @ exponents], exponents])

    return PowerRule(known.target, known.over, fitted(np.arange(len(y))), np.array([fitted(rows) for rows in picks]))
