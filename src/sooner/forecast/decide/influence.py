"""What a few runs decide: every run left out in turn, and the few that move a parameter most left out together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sooner.forecast.consensus import Consensus
from sooner.forecast.fit import refit
from sooner.forecast.fitted import Fit
from sooner.forecast.table import FloatArray

FEW = 5
"""How many runs count as a few, at most a tenth of them all."""
MUCH = 1.645
"""A move of a parameter by more than this many of its standard errors counts: it leaves the 90 % interval."""

_AT_ONCE = 100_000
"""Weights of rows that are refitted together; the memory that takes does not grow with the number of runs."""


@dataclass(frozen=True)
class Influence:
    """What leaving out does to the parameters.

    Args:
        runs: (n,) names.
        moved: (n, p) change of each parameter when the run is left out.
        few: the runs that together move one parameter most, relative to its standard error.
        parameter: that parameter.
        change: of it, when those few are left out.
        errors: the change in standard errors.
    """

    runs: list[str]
    moved: FloatArray
    few: list[str]
    parameter: str
    change: float
    errors: float


def influence(fit: Fit, few: int = FEW) -> Influence:
    """Return how much the runs of a fit move its parameters.

    The few runs are chosen by their single moves in one direction, which is exact for a linear fit; their joint move is
    then measured by a refit. Hoffmann's 245 points are the warning example: five move beta by 0.086 (Besiroglu et al.,
    2024, arXiv 2404.10102).

    Args:
        fit: a fit.
        few: how many to leave out together; at most a tenth of the runs, at least one.
    """
    runs = fit.table.runs
    count = max(1, min(few, len(runs) // 10))
    place = {name: k for k, name in enumerate(runs)}
    which = np.array([place[name] for name in fit.table.run.tolist()])
    pieces = np.array_split(np.arange(len(runs)), max(1, len(runs) * len(which) // _AT_ONCE))
    moved = np.concatenate([refit(fit, (piece[:, None] != which) * 1.0) for piece in pieces]) - fit.values
    spread = np.maximum(np.std(fit.draws, axis=0), 1e-12 * np.maximum(np.abs(fit.values), 1e-300))
    groups = []
    for column in range(moved.shape[1]):
        order = np.argsort(moved[:, column])
        groups += [(column, order[:count]), (column, order[-count:])]
    weights = np.ones((len(groups), len(fit.table)))
    for row, (_, chosen) in enumerate(groups):
        weights[row, np.isin(which, chosen)] = 0.0
    joint = refit(fit, weights) - fit.values
    sizes = [abs(joint[row, column]) / spread[column] for row, (column, _) in enumerate(groups)]
    worst = int(np.argmax(sizes))
    column, chosen = groups[worst]
    return Influence(
        runs,
        moved,
        [runs[k] for k in sorted(chosen.tolist())],
        fit.law.parameters[column].name,
        float(joint[worst, column]),
        float(sizes[worst]),
    )


def influence_warning(fit: Fit) -> str | None:
    """Return a sentence where a few runs move a parameter out of its 90 % interval, else None.

    A median of laws is not asked: no single run decides it by one parameter.
    """
    if isinstance(fit.law, Consensus) or len(fit.table.runs) <= len(fit.law.parameters) + 1:
        return None
    found = influence(fit)
    if found.errors < MUCH:
        return None
    named = ", ".join(found.few)
    return (
        f"{len(found.few)} of {len(found.runs)} runs ({named}) move {found.parameter} by {found.change:+.3g}, "
        f"{found.errors:.1f} standard errors: look at them before relying on it"
    )
