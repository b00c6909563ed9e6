"""Loss curves as a walk along a river valley: a power law in the way made, plus a height above the river.

How far a step leads along the river depends on the learning rate less than linearly, and how high above it the noise
holds the weights depends on the learning rates of the last steps. Both memories are fitted, not assumed.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np
from numpy.polynomial.chebyshev import chebpts1, chebvander

from sooner.forecast.along_schedule import AlongSchedule
from sooner.forecast.formula import Parameter, grid, unpack
from sooner.forecast.schedules import dense
from sooner.forecast.table import FloatArray, Table

_POWERS, _MEMORIES = 8, 32
"""Nodes between which sums over a schedule are interpolated, to 1e-4 of their value, rather than summed again."""


class _Sums(NamedTuple):
    peak: FloatArray  # [n] largest learning rate of the row's run
    rise: FloatArray  # [_POWERS, n] coefficients of the sum of (lr / peak)^power over the warm-up
    way: FloatArray  # [_POWERS, n] the same after the warm-up
    recent: FloatArray  # [_MEMORIES, n] coefficients of the mean learning rate of the last steps


class RiverValley(AlongSchedule):
    """L(t) = L0 + A S(t)^-alpha + B m(t): S the sum of lr^power, m the learning rate averaged over `memory` steps.

    The picture is that of Wen et al., 2024, arXiv 2410.05192. With power = 1, warmup = 1 and memory = 1000 it is the
    law of Tissue et al., 2024, arXiv 2408.11029, written from its end. A power of 1/2 is the pace where weight
    decay and steps balance (Kosson et al., 2023, arXiv 2305.17212), 1 that without weight decay.
    """

    name = "river_valley"
    title = "loss curve under any learning-rate schedule, with a fitted pace and memory"
    formula = "L(t) = L0 + A S^-alpha + B m, S = warmup sum_rise lr^power + sum_after lr^power, m = mean_memory lr"
    source = "after Wen et al., 2024, arXiv 2410.05192"
    parameters: ClassVar = (
        Parameter("L0", "loss", 1e-6, 1e3, "log"),
        Parameter("A", "loss x way^alpha", 1e-8, 1e6, "log"),
        Parameter("alpha", "exponent", 0.01, 5.0, "log"),
        Parameter("B", "loss per learning rate", 1e-6, 1e9, "log"),
        Parameter("power", "exponent of the learning rate", 0.5, 1.0),
        Parameter("memory", "steps", 1.0, 3e4, "log"),
        Parameter("warmup", "share of the warm-up that counts", 0.0, 1.0),
    )

    def starts(self, table: Table) -> FloatArray:
        """Return floors below the smallest loss with amplitudes that meet the first rows."""
        low, high = float(table[self.target].min()), float(table[self.target].max())
        data = self.prepare(table)
        made = grid([0.7, 0.9], [0.3, 0.7], [0.03, 0.1], [0.6, 0.9], [0.05, 0.5], [0.5, 1.0])
        floor, alpha, share, power, memory, warmup = made.T
        amount = np.maximum(high - floor * low, 1e-3) * _way(data, power[:, None], warmup[:, None]).min(1) ** alpha
        steps = np.maximum(memory * np.sqrt(float(table["step"].max())), 1.0)
        return np.stack([floor * low, amount, alpha, share * low / data.peak.max(), power, steps, warmup], 1)

    def prepare(self, table: Table) -> _Sums:
        """Return the sums at the rows, as coefficients of the power and of the logarithm of the memory."""
        peak = np.empty(len(table))
        rise, way, recent = (np.empty((count, len(table))) for count in (_POWERS, _POWERS, _MEMORIES))
        for name in table.runs:
            rows = table.run == name
            peak[rows], rise[:, rows], way[:, rows], recent[:, rows] = _sums(table.where(rows))
        return _Sums(peak, rise, way, recent)

    def predict(self, values: FloatArray, data: _Sums) -> FloatArray:
        """Return the loss."""
        floor, amount, alpha, height, power, memory, warmup = unpack(values)
        way = np.log(_way(data, power, warmup))
        mean = _basis(np.log(memory[:, 0]), _MEMORY, _MEMORIES) @ data.recent
        return floor + np.exp(np.log(amount) - alpha * way) + height * mean


_POWER = (RiverValley.parameters[4].low, RiverValley.parameters[4].high)
_MEMORY = (float(np.log(RiverValley.parameters[5].low)), float(np.log(RiverValley.parameters[5].high)))


def _basis(at: FloatArray, span: tuple[float, float], count: int) -> FloatArray:
    """Return (k, count) Chebyshev polynomials at (k,) places of a span."""
    return np.asarray(chebvander(2 * (at - span[0]) / (span[1] - span[0]) - 1, count - 1), dtype=np.float64)


def _nodes(span: tuple[float, float], count: int) -> tuple[FloatArray, FloatArray]:
    """Return (count,) nodes in a span and the matrix from values at them to coefficients."""
    places = np.asarray(chebpts1(count), dtype=np.float64)
    to_coefficients: FloatArray = np.linalg.inv(chebvander(places, count - 1)).astype(np.float64)
    return span[0] + (places + 1) * (span[1] - span[0]) / 2, to_coefficients


def _way(data: _Sums, power: FloatArray, warmup: FloatArray) -> FloatArray:
    """Return (k, n) ways made, for (k, 1) powers and shares of the warm-up."""
    basis = _basis(power[:, 0], _POWER, _POWERS)
    made: FloatArray = np.maximum(warmup * (basis @ data.rise) + basis @ data.way, 0.1) * data.peak**power
    return made


def _sums(run: Table) -> tuple[float, FloatArray, FloatArray, FloatArray]:
    """Return the peak and the coefficients of the three sums at the rows of one run."""
    from scipy.signal import lfilter  # here, because importing it takes longer than all of the forecast

    rate, steps = dense(run)
    at = np.clip(np.round(steps).astype(np.intp), 0, len(rate) - 1)
    peak, top = float(rate.max()), int(np.argmax(rate))
    powers, to_powers = _nodes(_POWER, _POWERS)
    rise, way = np.empty((_POWERS, len(at))), np.empty((_POWERS, len(at)))
    for k, power in enumerate(powers):
        pace = (rate / peak) ** power
        risen = np.cumsum(np.where(np.arange(len(rate)) <= top, pace, 0.0))
        rise[k], way[k] = risen[at], (np.cumsum(pace) - risen)[at]
    held = np.concatenate([np.full(top, peak), rate[top:]])  # a warm-up is not noise that decays
    memories, to_memories = _nodes(_MEMORY, _MEMORIES)
    recent = np.empty((_MEMORIES, len(at)))
    for k, memory in enumerate(np.exp(memories)):
        keep = np.exp(-1 / memory)
        recent[k] = lfilter([1 - keep], [1.0, -keep], held, zi=[keep * peak])[0][at]
    return peak, to_powers @ rise, to_powers @ way, to_memories @ recent
