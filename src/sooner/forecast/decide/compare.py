"""Two training procedures: which is better at which scale, how surely, and where they cross."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.fit import fit
from sooner.forecast.fitted import FAR, LEVEL, Fit
from sooner.forecast.law import Law
from sooner.forecast.laws.power_floor import PowerFloor
from sooner.forecast.table import FloatArray, Table
from sooner.forecast.table import table as make

_POINTS = 200


@dataclass(frozen=True)
class Crossing:
    """Where the better procedure changes.

    Args:
        value: of the best fits; None where they do not cross in the range looked at.
        low: lower end of the band over draws that cross.
        high: upper end.
        share: share of the draws that cross in the range.
    """

    value: float | None
    low: float | None
    high: float | None
    share: float


@dataclass(frozen=True)
class Comparison:
    """Two fits along a scale.

    Args:
        over: the column of the scale.
        at: (n,) scales.
        first: (n,) predicted target of the first procedure.
        second: (n,) of the second.
        difference: (n,) second minus first: positive where the first is better.
        low: (n,) lower end of its band.
        high: (n,) upper end.
        first_better: (n,) share of the draws in which the first has the lower target.
        crossing: where they cross.
        level: of the bands.
        warnings: why to doubt it.
    """

    over: str
    at: FloatArray
    first: FloatArray
    second: FloatArray
    difference: FloatArray
    low: FloatArray
    high: FloatArray
    first_better: FloatArray
    crossing: Crossing
    level: float
    warnings: tuple[str, ...]


def compare(
    first: Table,
    second: Table,
    *,
    over: str = "compute",
    law: Law | None = None,
    to: float | None = None,
    level: float = LEVEL,
    draws: int = 400,
    seed: int = 0,
) -> Comparison:
    """Fit one law to each of two tables and compare them along a scale.

    After Nezhurina et al., 2025, arXiv 2506.04598 (fits with confidence bands on both procedures) and Xiao et al.,
    2024, arXiv 2409.15156 (scaling crossover). Draws of the two fits are independent, as the runs are.

    Args:
        first: measurements of the first procedure.
        second: of the second.
        over: the column of the scale.
        law: in that one column; a power law with a floor where left out.
        to: largest scale to look at; ten times the largest measured where left out.
        level: of the bands.
        draws: refits.
        seed: of the resampling.

    Raises:
        SoonerError: a table lacks the columns, or the law reads others than the scale.
    """
    law = law or PowerFloor(over)
    if law.needs != (over,):
        raise SoonerError(f"{law.name} reads {', '.join(law.needs)}; procedures are compared along {over} alone")
    fits = [fit(law, table, draws=draws, seed=seed + k) for k, table in enumerate((first, second))]
    scales = np.concatenate([one.table[over] for one in fits])
    end = FAR * float(scales.max()) if to is None else float(to)
    if not end > scales.min():
        raise SoonerError(f"{over} up to {end:g} ends before the measurements begin ({scales.min():g}); look further")
    at = np.geomspace(float(scales.min()), end, _POINTS)
    one_at, two_at = (one.at(make(**{over: at})) for one in fits)
    made = [_draws(one, over, at) for one in fits]
    gap = made[1] - made[0]
    low, high = np.quantile(gap, [(1 - level) / 2, (1 + level) / 2], axis=0)
    warnings = [f"{name}: {text}" for name, one in zip(("first", "second"), fits, strict=True) for text in one.warnings]
    shared = min(one.table[over].max() for one in fits)
    if end > FAR * shared:
        warnings.append(f"{over} {end:.3g} is {end / shared:.0f} times what both were measured at ({shared:.3g})")
    return Comparison(
        over,
        at,
        one_at,
        two_at,
        two_at - one_at,
        low,
        high,
        np.mean(gap > 0, axis=0),
        crossing(at, two_at - one_at, gap, level),
        level,
        tuple(dict.fromkeys(warnings)),
    )


def crossing(at: FloatArray, difference: FloatArray, draws: FloatArray, level: float = LEVEL) -> Crossing:
    """Return the last change of sign of a difference along a scale, with a band over draws.

    Args:
        at: (n,) scales, rising.
        difference: (n,).
        draws: (b, n).
        level: of the band.
    """
    own = _last_change(at, difference[None])[0]
    every = _last_change(at, draws)
    found = every[np.isfinite(every)]
    if not found.size:
        return Crossing(None if np.isnan(own) else float(own), None, None, 0.0)
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Crossing(None if np.isnan(own) else float(own), float(low), float(high), float(np.isfinite(every).mean()))


def _last_change(at: FloatArray, values: FloatArray) -> FloatArray:
    """Return (b,) scales at which each row changes its sign for the last time, interpolated in the logarithm."""
    logs = np.log(at)
    change = np.sign(values[:, 1:]) * np.sign(values[:, :-1]) < 0
    last = change.shape[1] - 1 - np.argmax(change[:, ::-1], axis=1)
    rows = np.arange(len(values))
    before, after = values[rows, last], values[rows, last + 1]
    share = np.where(change.any(axis=1), before / np.where(before == after, 1.0, before - after), 0.0)
    made: FloatArray = np.exp(logs[last] + share * (logs[last + 1] - logs[last]))
    return np.where(change.any(axis=1), made, np.nan)


def _draws(one: Fit, over: str, at: FloatArray) -> FloatArray:
    """Return (b, n) of the law at every draw: no noise of a run, as procedures are compared and not single runs."""
    prepared = one.law.prepare(one.law.table(make(**{over: at}), target=False))
    return one.law.predict(one.draws, prepared)
