"""The whole loss trajectory for any model size and batch size, and the batch beyond which more of it saves no steps."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from sooner.error import SoonerError
from sooner.forecast.formula import Parameter, grid, unpack
from sooner.forecast.law import Law
from sooner.forecast.one_quantity import positive
from sooner.forecast.table import FloatArray, Table

_ROUNDS = 30
_CLOSE = 1e-7
"""A Newton step as small as this leaves an error of its square."""


class Unraveled(Law):
    """L = (N_c / N)^alpha_N + [(S_c / S) (1 + B_crit(L) / B)]^alpha_S with B_crit(L) = B_* / L^(1 / alpha_B).

    Su et al., 2024, arXiv 2403.06563, after Kaplan et al., 2020, arXiv 2001.08361, eq. 1.6, and McCandlish et al.,
    2018, arXiv 1812.06162. The loss stands on both sides; it is solved for. The law is for unrepeated data, a learning
    rate tuned for each batch size and not decayed, and steps counted without the warm-up. It has no floor.
    """

    name = "unraveled"
    title = "loss trajectory from model size, steps and batch size"
    formula = "L = (N_c / N)^alpha_N + [(S_c / S) (1 + B_* / (B L^(1/alpha_B)))]^alpha_S"
    source = "Su et al., 2024, arXiv 2403.06563"
    needs = ("parameters", "step", "batch")
    parameters: ClassVar = (
        Parameter("N_c", "parameters", 1e-10, 1e80, "log"),
        Parameter("alpha_N", "exponent of parameters", 1e-3, 3.0),
        Parameter("S_c", "steps", 1e-10, 1e30, "log"),
        Parameter("alpha_S", "exponent of steps", 1e-2, 5.0),
        Parameter("B_*", "batch x loss^(1/alpha_B)", 1e-6, 1e30, "log"),
        Parameter("alpha_B", "exponent of the critical batch", 2e-2, 10.0, "log"),
    )
    over = "step"

    def table(self, table: Table, *, target: bool = True) -> Table:
        """Return the table with parameters, step and batch, checked.

        Raises:
            SoonerError: a column is missing, or a value in it is not positive.
        """
        return positive(super().table(table, target=target), "step", self.name)

    def starts(self, table: Table) -> FloatArray:
        """Return exponents on a grid; the last losses set N_c, the median step S_c and the median batch B_*."""
        low, middle = float(table["loss"].min()), float(np.median(table["loss"]))
        size, step, batch = (np.exp(np.mean(np.log(table[name]))) for name in self.needs)
        share, alpha_n, alpha_s, alpha_b, crowd = grid(
            [0.5, 0.9], [0.08, 0.25], [0.3, 0.8], [0.2, 1.0], [0.1, 1.0, 10.0]
        ).T
        floor = share * low
        step_scale = step / (1 + crowd) * np.maximum(middle - floor, 0.05 * low) ** (1 / alpha_s)
        return np.stack(
            [
                size * floor ** (1 / alpha_n),
                alpha_n,
                step_scale,
                alpha_s,
                crowd * batch * middle ** (1 / alpha_b),
                alpha_b,
            ],
            1,
        )

    def prepare(self, table: Table) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return log N, log S and log B."""
        return np.log(table["parameters"]), np.log(table["step"]), np.log(table["batch"])

    def predict(self, values: FloatArray, data: tuple[FloatArray, FloatArray, FloatArray]) -> FloatArray:
        """Return the loss for (log N, log S, log B): the root in u = log L of u = log of the right side.

        The right side's logarithm is convex and falls with u, so Newton's steps from below never overshoot.
        """
        size, alpha_n, steps, alpha_s, batch, alpha_b = unpack(values)
        floor = alpha_n * (np.log(size) - data[0])
        rest, path, crowd = np.exp(floor), np.log(steps) - data[1], np.log(batch) - data[2]
        u = np.logaddexp(floor, alpha_s * path)
        for _ in range(_ROUNDS):
            small = np.exp(np.minimum(crowd - u / alpha_b, 700.0))
            right = rest + (learned := np.exp(alpha_s * (path + np.log1p(small))))
            slope = 1 + learned / right * alpha_s / alpha_b * small / (1 + small)
            change = (np.log(right) - u) / slope
            u = u + change
            if not np.nanmax(np.abs(change), initial=0.0) > _CLOSE:
                break
        return np.exp(u)


def critical_batch(values: FloatArray, loss: npt.ArrayLike) -> FloatArray:
    """Return B_crit = B_* / L^(1/alpha_B), where a run takes twice its fewest steps and twice its fewest tokens.

    Args:
        values: (..., 6) parameters of `Unraveled`.
        loss: (n,) or a number.

    Returns:
        (..., n) in the unit of the column batch.
    """
    _, _, _, _, batch, alpha_b = np.moveaxis(np.asarray(values)[..., None], -2, 0)
    made: FloatArray = batch * np.asarray(loss, dtype=np.float64) ** (-1 / alpha_b)
    return made


def smallest_steps(values: FloatArray, parameters: npt.ArrayLike, loss: npt.ArrayLike) -> FloatArray:
    """Return S_min: the steps to a loss with a batch far above the critical one.

    Args:
        values: (..., 6) parameters of `Unraveled`.
        parameters: (n,) model sizes, or one.
        loss: (n,) or a number.

    Returns:
        (..., n) steps.

    Raises:
        SoonerError: the model is too small for the loss.
    """
    size, alpha_n, steps, alpha_s, _, _ = np.moveaxis(np.asarray(values)[..., None], -2, 0)
    floor = (size / np.asarray(parameters, dtype=np.float64)) ** alpha_n
    left = np.asarray(loss, dtype=np.float64) - floor
    if not np.all(left > 0):
        raise SoonerError(
            f"the loss {np.min(loss):.4g} is never reached: by this law such a model ends at {np.max(floor):.4g}; "
            f"take a larger model or a higher target"
        )
    made: FloatArray = steps * left ** (-1 / alpha_s)
    return made


def steps_to(values: FloatArray, parameters: npt.ArrayLike, batch: npt.ArrayLike, loss: npt.ArrayLike) -> FloatArray:
    """Return S = S_min (1 + B_crit / B): the steps to a loss at a batch size; times the batch, the tokens.

    Args:
        values: (..., 6) parameters of `Unraveled`.
        parameters: (n,) model sizes, or one.
        batch: (n,) batch sizes, or one.
        loss: (n,) or a number.

    Returns:
        (..., n) steps.

    Raises:
        SoonerError: the model is too small for the loss.
    """
    crowd = critical_batch(values, loss) / np.asarray(batch, dtype=np.float64)
    return smallest_steps(values, parameters, loss) * (1 + crowd)
