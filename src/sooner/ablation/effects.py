"""What each part does, from the runs of all arms: effects with intervals, pairs, and what may go.

Values are logarithms (of steps to the target, say), so an effect is a ratio. Each seed gives every effect once, as its
runs are paired over all arms; but luck in tuning one arm is the same for all seeds of it, so an interval is never
narrower than what the scatter among the design's own contrasts says, most of which are nothing (Lenth, 1989, "Quick
and easy analysis of unreplicated factorials").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from sooner.ablation.design import Design
from sooner.race.statistics import holm

Array = NDArray[np.float64]

ALPHA = 0.05
LENTH_FROM = 7
"""Contrasts from which their scatter can be told from their effects."""


@dataclass(frozen=True)
class Effect:
    """One number with its doubt, on the scale of logarithms.

    Args:
        parts: which parts it speaks of.
        value: the mean over seeds.
        low: lower end of the 95 % interval.
        high: upper end.
        p: two-sided, corrected by Holm (1979) for the number of effects of its kind.
    """

    parts: tuple[int, ...]
    value: float
    low: float
    high: float
    p: float

    @property
    def sure(self) -> bool:
        """Whether it is not luck."""
        return self.p < ALPHA


@dataclass(frozen=True)
class Effects:
    """What a design has found.

    Args:
        parts: of having each part, averaged over the others; below 0 is sooner.
        pairs: of each pair; below 0 the two help each other, above 0 each makes less of the other. Empty where the
            design can't tell.
        left_out: of leaving each part out of the whole stack; above 0 the stack is slower without.
        kept: positions of the parts that stay.
        scatter: standard error that the contrasts themselves show, None where there are too few.
    """

    parts: list[Effect]
    pairs: list[Effect]
    left_out: list[Effect]
    kept: list[int]
    scatter: float | None


def effects(design: Design, values: Array, worth: float) -> Effects:
    """Return what each part does.

    Args:
        design: the arms.
        values: float64 [arms, seeds], logarithms, lower is better, all finite.
        worth: a part that is sure to be worth less than this, on the scale of logarithms, may go.

    Raises:
        ValueError: fewer than two seeds, or values of another shape.
    """
    arms, parts = design.levels.shape
    if values.shape[0] != arms or values.shape[1] < 2 or not np.isfinite(values).all():
        raise ValueError(f"{arms} arms need finite values of 2 seeds or more, got {values.shape}")
    names, contrasts = design.contrasts()
    measured = contrasts @ values
    scatter, freedom = _scatter(measured.mean(axis=1))
    doubt = _Doubt(scatter, freedom)
    mains = _told(names[:parts], measured[:parts], doubt)
    number = parts * (parts - 1) // 2 if design.pairs else 0
    pairs = _told(names[parts : parts + number], measured[parts : parts + number], doubt)
    seen = {pair.parts: measured[parts + i] for i, pair in enumerate(pairs) if pair.sure}
    whole = frozenset(range(parts))
    removals = [_removal(part, whole, measured, seen) for part in range(parts)]
    left_out = _told([(part,) for part in range(parts)], [r for r, _ in removals], doubt, [n for _, n in removals])
    return Effects(mains, pairs, left_out, _kept(whole, measured, seen, doubt, worth), scatter)


def mean(values: Array) -> Effect:
    """Return the mean over seeds, float64 [seeds], with what seeds say of its doubt."""
    return _told([()], [values], _Doubt(None, 0.0))[0]


def predictions(design: Design, found: Effects) -> Array:
    """Return what the effects of parts and of sure pairs say of every arm, float64 [arms], but for one constant."""
    levels = design.levels.astype(np.float64)
    told: Array = levels @ np.array([e.value / 2 for e in found.parts])
    for pair in found.pairs:
        if pair.sure:
            told += levels[:, pair.parts].prod(axis=1) * pair.value / 2
    return told


class _Doubt:
    """The half-width of intervals: the wider of what seeds and what contrasts say."""

    def __init__(self, scatter: float | None, freedom: float) -> None:
        self.scatter, self.freedom = scatter, freedom

    def margin(self, of_seeds: Array, terms: int) -> float:
        """Return the half-width at 95 % of the mean of values per seed, a sum of so many contrasts."""
        n = of_seeds.size
        wide = float(special.stdtrit(n - 1, 1 - ALPHA / 2) * of_seeds.std(ddof=1) / np.sqrt(n))
        if self.scatter is not None:
            wide = max(wide, float(special.stdtrit(self.freedom, 1 - ALPHA / 2)) * self.scatter * float(np.sqrt(terms)))
        return wide

    def p(self, of_seeds: Array, terms: int) -> float:
        """Return the two-sided p-value, the larger of both."""
        n, mean = of_seeds.size, abs(float(of_seeds.mean()))
        errors = [(float(n - 1), float(of_seeds.std(ddof=1) / np.sqrt(n)))]
        if self.scatter is not None:
            errors.append((self.freedom, self.scatter * float(np.sqrt(terms))))
        return max(_two_sided(mean, error, freedom) for freedom, error in errors)


def _two_sided(mean: float, error: float, freedom: float) -> float:
    if mean == 0:
        return 1.0
    return float(2 * special.stdtr(freedom, -mean / error)) if error > 0 else 0.0


def _scatter(contrasts: Array) -> tuple[float | None, float]:
    """Return Lenth's pseudo standard error and its degrees of freedom; None for too few contrasts."""
    if contrasts.size < LENTH_FROM:
        return None, 0.0
    sizes = np.abs(contrasts)
    first = 1.5 * np.median(sizes)
    return float(1.5 * np.median(sizes[sizes < 2.5 * first])) if first > 0 else 0.0, contrasts.size / 3


def _told(
    names: Sequence[tuple[int, ...]], rows: Array | Sequence[Array], doubt: _Doubt, terms: Sequence[int] | None = None
) -> list[Effect]:
    counts = terms or [1] * len(names)
    ps = holm([doubt.p(row, n) for row, n in zip(rows, counts, strict=True)])
    found = []
    for name, row, n, p in zip(names, rows, counts, ps, strict=True):
        middle, margin = float(row.mean()), doubt.margin(row, n)
        found.append(Effect(name, middle, middle - margin, middle + margin, p))
    return found


def _removal(
    part: int, present: frozenset[int], measured: Array, pairs: dict[tuple[int, ...], Array]
) -> tuple[Array, int]:
    """Return what leaving a part out of those present does, per seed, and of how many contrasts that is a sum."""
    total, terms = measured[part].copy(), 1
    for group, row in pairs.items():
        if part in group:
            (other,) = set(group) - {part}
            total += row if other in present else -row
            terms += 1
    return -total, terms


def _kept(
    whole: frozenset[int], measured: Array, pairs: dict[tuple[int, ...], Array], doubt: _Doubt, worth: float
) -> list[int]:
    """Leave parts out one after another, the surest first, as long as what that costs is surely less than `worth`."""
    present = whole
    while present:
        costs = {}
        for part in sorted(present):
            row, terms = _removal(part, present, measured, pairs)
            costs[part] = float(row.mean()) + doubt.margin(row, terms)
        surest = min(costs, key=lambda part: costs[part])
        if costs[surest] >= worth:
            break
        present -= {surest}
    return sorted(present)
