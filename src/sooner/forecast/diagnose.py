"""Why to doubt a fit: each doubt is one sentence, found by one function."""

from __future__ import annotations

import numpy as np

from sooner.forecast.fitted import FLAT, VALLEY, Fit
from sooner.forecast.table import FLOP_PER_PARAMETER_AND_TOKEN, FloatArray

APART = 0.25
"""Relative distance from which equally good starts disagree on a parameter."""
OTHERWISE = 0.1
"""From this difference on, in logarithm, FLOP are counted otherwise than 6 N D."""
SMALL = 3e7
"""Below this many parameters, embeddings are often more than half of a language model."""


def fit_warnings(fit: Fit) -> tuple[str, ...]:
    """Return what to doubt about a fit."""
    found = (
        *_bounds(fit),
        *_floor(fit),
        *_scales(fit),
        *_flat(fit),
        *_collinear(fit),
        *_convention(fit),
    )
    return tuple(dict.fromkeys(found))


BOUND = "is at its bound"
FLOOR = "the floor"
"""Words of two doubts, by which an average of laws tells each once."""


def _bounds(fit: Fit) -> list[str]:
    told = []
    unknown = fit.law.floor if _floor(fit) else None  # which is said of the floor already
    for parameter, value in zip(fit.law.parameters, fit.values, strict=True):
        if parameter.name == unknown:
            continue
        span = np.log(parameter.high / parameter.low) if parameter.scale == "log" else parameter.high - parameter.low
        for edge in (parameter.low, parameter.high):
            near = np.log(value / edge) if parameter.scale == "log" else value - edge
            if abs(near) <= 1e-6 * span:
                told.append(f"{parameter.name} {BOUND} {edge:g}: the rows do not determine it")
    return told


def _floor(fit: Fit) -> list[str]:
    if fit.law.floor is None:
        return []
    index = [parameter.name for parameter in fit.law.parameters].index(fit.law.floor)
    low, high = np.quantile(fit.draws[:, index], [0.05, 0.95])
    smallest = float(fit.table[fit.law.target].min())
    if low < 0.05 * smallest or high > 0.995 * smallest:
        return [
            f"{FLOOR} {fit.law.floor} is not identified: its 90 % interval [{low:.3g}, {high:.3g}] reaches "
            f"{'zero' if low < 0.05 * smallest else f'the smallest {fit.law.target} ({smallest:.3g})'}"
        ]
    return []


def count_scales(values: FloatArray) -> int:
    """Return how many scales positive values have: those within 5 % of the first of a group belong to it."""
    count, first = 0, -np.inf
    for one in np.sort(np.log(values)):
        if one > first + 0.05:
            count, first = count + 1, one
    return count


def _scales(fit: Fit) -> list[str]:
    told = []
    for name in fit.law.needs:
        if name in ("step", "lr", "seconds") or name not in fit.table:
            continue
        scales = count_scales(fit.table[name])
        if scales < 3:
            told.append(f"there are fewer than three scales of {name} ({scales}): its exponent rests on assumption")
    return told


def _flat(fit: Fit) -> list[str]:
    level = fit.objective * (1 + FLAT) + 1e-12
    close = fit.ends_values[fit.ends <= level]
    apart = [
        parameter.name
        for index, parameter in enumerate(fit.law.parameters)
        if np.ptp(close[:, index]) > APART * max(abs(fit.values[index]), 1e-12)
    ]
    if not apart:
        return []
    return [f"{VALLEY}: starts that end within 1 % of the best disagree on {', '.join(apart)}"]


def _convention(fit: Fit) -> list[str]:
    """Return what may be counted otherwise elsewhere: embeddings in N, and FLOP that are not 6 N D."""
    told = []
    table = fit.table
    if "parameters" not in fit.law.needs:
        return []
    if all(name in table for name in ("parameters", "tokens", "compute")):
        ratio = float(
            np.median(table["compute"] / (FLOP_PER_PARAMETER_AND_TOKEN * table["parameters"] * table["tokens"]))
        )
        if abs(np.log(ratio)) > OTHERWISE:
            told.append(
                f"FLOP are {ratio:.2f} times 6 x parameters x tokens: another convention, or parameters without "
                "embeddings; targets must be counted the same way"
            )
    smallest = float(table["parameters"].min())
    if smallest < SMALL:
        told.append(
            f"the smallest model has {smallest:.3g} parameters, of which embeddings may be a large share: "
            "exponents differ with and without them, so count them the same way everywhere"
        )
    return told


def _collinear(fit: Fit) -> list[str]:
    """Return a warning where two predictors move together, so that their exponents can't be told apart."""
    names = [name for name in fit.law.needs if name in ("parameters", "tokens", "compute", "batch", "experts")]
    told = []
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            a, b = np.log(fit.table[first]), np.log(fit.table[second])
            if np.ptp(a) < 1e-9:
                told.append(f"{first} is the same in every row: its exponent is not determined")
            elif np.ptp(b) < 1e-9:
                told.append(f"{second} is the same in every row: its exponent is not determined")
            elif abs(np.corrcoef(a, b)[0, 1]) > 0.98:
                told.append(f"{first} and {second} grow together in these rows, which can't separate their exponents")
    return told
