"""The least-squares engine behind every law: many starts, or bootstrap draws, at once, with Huber's loss and bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Model = Callable[[FloatArray], FloatArray]
"""From parameters (k, p) to predictions (k, n)."""

_CHUNK = 400_000
"""Predictions computed at once; larger arrays fall out of the cache and run slower."""
_STEP = 1e-6
_GRIT = 1e-300


@dataclass(frozen=True)
class Solution:
    """Where the starts ended.

    Args:
        values: (k, p) parameters.
        objective: (k,) sum over rows of weight x Huber loss of the residual.
    """

    values: FloatArray
    objective: FloatArray

    @property
    def best(self) -> int:
        """The start with the lowest objective."""
        return int(np.argmin(self.objective))


def huber(residual: FloatArray, delta: float) -> FloatArray:
    """Return Huber's loss: half the square up to `delta`, linear beyond; half the square where delta is infinite."""
    size = np.abs(residual)
    return np.where(size <= delta, 0.5 * size * size, delta * (size - 0.5 * delta) if np.isfinite(delta) else 0.0)


def solve(
    model: Model,
    target: FloatArray,
    starts: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    *,
    delta: float = np.inf,
    weights: FloatArray | None = None,
    iterations: int = 200,
    tolerance: float = 1e-9,
) -> Solution:
    """Minimise sum_i w_i Huber(model_i - target_i) from every start at once: Levenberg-Marquardt, reweighted squares.

    Args:
        model: maps (k, p) parameters to (k, n) predictions, rows independent of each other.
        target: (n,) or, for draws that differ, (k, n).
        starts: (k, p).
        lower: (p,) bounds; a parameter that presses against one is held there.
        upper: (p,).
        delta: where Huber's loss turns linear, in units of the target; infinite for plain least squares.
        weights: (n,) or (k, n), such as how often a bootstrap draw holds each row.
        iterations: at most.
        tolerance: a start is done when its objective falls by less than this fraction twice in a row.
    """
    starts = np.clip(np.asarray(starts, dtype=np.float64), lower, upper)
    count, rows = len(starts), target.shape[-1]
    targets = np.broadcast_to(target, (count, rows))
    loads = np.broadcast_to(np.ones(rows) if weights is None else weights, (count, rows))
    values, objective = starts.copy(), np.full(count, np.inf)
    size = max(1, _CHUNK // max(rows, 1))
    for first in range(0, count, size):
        part = slice(first, first + size)
        values[part], objective[part] = _descend(
            model, targets[part], starts[part], lower, upper, delta, loads[part], iterations, tolerance
        )
    return Solution(values, objective)


def _cost(residual: FloatArray, loads: FloatArray, delta: float) -> FloatArray:
    with np.errstate(over="ignore", invalid="ignore"):
        cost = np.sum(loads * huber(residual, delta), axis=-1)
    return np.where(np.isfinite(cost), cost, np.inf)


def jacobian(model: Model, values: FloatArray, upper: FloatArray, at: FloatArray) -> FloatArray:
    """Return (k, p, n) forward differences of the model at `values`, where it is `at`; steps stay inside the bound."""
    columns = []
    for column in range(values.shape[1]):
        step = _STEP * np.maximum(np.abs(values[:, column]), 1e-2)
        step = np.where(values[:, column] + step > upper[column], -step, step)
        moved = values.copy()
        moved[:, column] += step
        columns.append((model(moved) - at) / step[:, None])
    return np.stack(columns, axis=1)


def _descend(
    model: Model,
    target: FloatArray,
    start: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    delta: float,
    loads: FloatArray,
    iterations: int,
    tolerance: float,
) -> tuple[FloatArray, FloatArray]:
    values = start.copy()
    with np.errstate(all="ignore"):
        residual = model(values) - target
    cost = _cost(residual, loads, delta)
    damping, still = np.full(len(values), 1e-2), np.zeros(len(values), dtype=np.intp)
    live = np.isfinite(cost)
    for _ in range(iterations):
        rows = np.flatnonzero(live)
        if not rows.size:
            break
        with np.errstate(all="ignore"):
            moved = _step(
                model, target[rows], values[rows], residual[rows], lower, upper, delta, loads[rows], damping[rows]
            )
            fresh = model(moved) - target[rows]
        after = _cost(fresh, loads[rows], delta)
        better = after < cost[rows]
        gain = np.where(better, (cost[rows] - after) / (np.abs(cost[rows]) + _GRIT), 0.0)
        damping[rows] = np.clip(np.where(better, damping[rows] * 0.3, damping[rows] * 6.0), 1e-12, 1e12)
        still[rows] = np.where(better & (gain > tolerance), 0, still[rows] + np.where(better, 4, 1))
        kept = rows[better]
        values[kept], residual[kept], cost[kept] = moved[better], fresh[better], after[better]
        live[rows] = (still[rows] < 8) & (damping[rows] < 1e11) & (cost[rows] > _GRIT)
    return values, cost


def _step(
    model: Model,
    target: FloatArray,
    values: FloatArray,
    residual: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    delta: float,
    loads: FloatArray,
    damping: FloatArray,
) -> FloatArray:
    slope = jacobian(model, values, upper, residual + target)
    slope = np.nan_to_num(slope, nan=0.0, posinf=0.0, neginf=0.0)
    size = np.abs(residual)
    load = loads * np.where(size > delta, delta / np.maximum(size, _GRIT), 1.0)
    weighted = slope * load[:, None, :]
    normal = weighted @ slope.transpose(0, 2, 1)
    gradient = np.einsum("kpn,kn->kp", weighted, residual)
    # a parameter at its bound that the gradient pushes outward stays there
    held = ((values <= lower) & (gradient > 0)) | ((values >= upper) & (gradient < 0))
    gradient = np.where(held, 0.0, gradient)
    normal = np.where(held[:, :, None] | held[:, None, :], 0.0, normal)
    diagonal = np.einsum("kpp->kp", normal)
    scale = np.maximum(diagonal, 1e-12 * np.maximum(diagonal.max(axis=1, keepdims=True), _GRIT))
    eye = np.eye(values.shape[1])
    damped = normal + eye * (scale * damping[:, None] + np.where(held, 1.0, 0.0))[:, None, :]
    try:
        change = -np.linalg.solve(damped, gradient[..., None])[..., 0]
    except np.linalg.LinAlgError:
        change = -gradient / (scale * (1.0 + damping[:, None]))
    change = np.nan_to_num(change, nan=0.0, posinf=0.0, neginf=0.0)
    made: FloatArray = np.clip(values + change, lower, upper)
    return made
