"""Does the gain survive? The speed-up of a contender at sizes and lengths that nobody has paid for yet.

A speed-up of 2 says: the loss that the baseline has after so many steps, the contender has after half of them. It is
measured at every size from the loss curves of both, fitted together (`families`), and carried on by laws that are
averaged (`trend`). Where the answer can't be told, the cheapest races that would tell it are named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.families import Family, measure
from sooner.forecast.fitted import FAR, LEVEL
from sooner.forecast.gained import SURE, Gain, Purchase, Speedup, Vanishing, sentence, shown
from sooner.forecast.read.arms import Arms, read_arms
from sooner.forecast.table import FloatArray
from sooner.forecast.trend import LEVELS, SLOPES, Cells, Trend, trend

GONE = 1.02
"""A speed-up of this much or less is none."""
LOOKED = 1000.0
"""Up to this multiple of the largest size it is looked for where a gain vanishes."""
_POINTS = 60


def gain(
    runs: Arms | Sequence[Path],
    *,
    baseline: str | None = None,
    contender: str | None = None,
    size_times: float = 10.0,
    length_times: float = 1.0,
    columns: Mapping[str, str] | None = None,
    where: Mapping[str, str] | None = None,
    level: float = LEVEL,
    draws: int = 200,
    seed: int = 0,
) -> list[Gain]:
    """Say of every contender whether its gain over the baseline survives at a larger size or length.

    Args:
        runs: folders of races (`sooner race --sizes`), tables with arm, size, steps, loss and seed, or what `read_arms`
            made of them.
        baseline: an arm; by default the first of the races or the table.
        contender: another; by default all others, one after the other.
        size_times: the size asked for, over the largest measured.
        length_times: the length asked for, over the longest measured.
        columns: heading by column, for tables.
        where: the text that the cells under a heading must be, for tables.
        level: of the intervals.
        draws: refits of the curves.
        seed: of the draws.

    Raises:
        SoonerError: fewer than two sizes, runs that tell no speed-up, or numbers that can't be.
    """
    for name, times in (("size_times", size_times), ("length_times", length_times)):
        if not 0 < times < np.inf:
            raise SoonerError(f"{name} is {times:g}; give a positive number, such as 10")
    if not 0 < level < 1 or draws < 20:
        raise SoonerError(f"level {level:g} must lie between 0 and 1, and draws {draws} be 20 or more")
    arms = runs if isinstance(runs, Arms) else read_arms(runs, columns=columns, where=where)
    baseline = arms.names[0] if baseline is None else baseline
    others = [name for name in arms.names if name != baseline] if contender is None else [contender]
    if not others:
        raise SoonerError(f"there is no arm besides {baseline!r}; a gain needs a baseline and a contender")
    return [_gain(arms, baseline, name, size_times, length_times, level, draws, seed) for name in others]


def _gain(
    arms: Arms, baseline: str, contender: str, times: float, longer: float, level: float, draws: int, seed: int
) -> Gain:
    families, notes = arms.families(baseline, contender)
    sizes = sorted({family.size for family in families})
    if len(sizes) < 2:
        raise SoonerError(
            f"{contender} and {baseline} ran together at one size ({sizes[0]:g} parameters), which says nothing of "
            "others; race at two sizes or more, with --sizes 1,2,4"
        )
    cells = measure(families, earlier=longer != 1, draws=draws, seed=seed)
    law = trend(cells, seed=seed)
    size, length = times * sizes[-1], longer * float(cells.length.max())
    target = _speedup(size, length, law.at(size, length, seed=seed + 1), level)
    measured = [_measured(cells, k, families[k], level) for k in range(len(families))]
    along = np.geomspace(sizes[0], max(size, sizes[-1]), _POINTS)
    drawn = np.stack([law.at(one, length) for one in along], axis=1)
    low, high = np.exp(np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0))
    largest = _speedup(sizes[-1], length, law.at(sizes[-1], length), level)
    direction = _direction(law.at(size, length) - law.at(sizes[-1], length))
    vanishing = _vanishing(law, sizes, length, level)
    verdict = _verdict(target, measured)
    left_out = _left_out(cells, families, sizes, level, seed)
    warnings = _warnings(families, sizes, times, longer, cells)
    if left_out is not None and not left_out[1].low <= left_out[0].value <= left_out[1].high:
        warnings.append(
            f"without the largest size it would have been forecast at {shown(left_out[1])}, and "
            f"{shown(left_out[0])} was measured: sizes differ by more than a law explains, as with few tuning trials; "
            "race with more (--tune 8)"
        )
    buy = _purchase(cells, law, families, target, level) if verdict == "open" else None
    return Gain(
        baseline,
        contender,
        measured,
        target,
        verdict,
        sentence(baseline, contender, verdict, target, largest, direction, vanishing, buy, times),
        direction,
        vanishing,
        buy,
        along,
        np.exp(np.median(drawn, axis=0)),
        low,
        high,
        left_out,
        law.shares,
        level,
        warnings,
        [*arms.notes, *notes],
    )


def _speedup(size: float, length: float, drawn: FloatArray, level: float, seeds: int = 0) -> Speedup:
    low, value, high = np.exp(np.quantile(drawn, [(1 - level) / 2, 0.5, (1 + level) / 2]))
    return Speedup(float(size), float(length), float(value), float(low), float(high), seeds)


def _measured(cells: Cells, k: int, family: Family, level: float) -> Speedup:
    from scipy import stats  # here, because importing it takes longer than all of the forecast

    width = float(stats.t.ppf((1 + level) / 2, cells.freedom) * np.sqrt(cells.covariance[k, k]))
    value, low, high = np.exp(cells.gain[k] + np.array([0.0, -width, width]))
    return Speedup(family.size, family.length, float(value), float(low), float(high), len(family.contender.seeds))


def _direction(change: FloatArray) -> str:
    up = float((change > 0).mean())
    if max(up, 1 - up) < SURE:
        return "no trend told"
    return "grows" if up > 0.5 else "shrinks"


def _vanishing(law: Trend, sizes: Sequence[float], length: float, level: float) -> Vanishing:
    """Find the size from which on each draw has no gain; a draw that has none at the smallest vanishes there."""
    least = np.log(GONE) - law.slope_of_length * np.log(length / law.length)
    with np.errstate(all="ignore"):
        straight = np.where(law.slope < 0, (least - law.level) / law.slope, np.inf)
        fades = np.where(least > 0, np.log(law.level / least) / law.fading, np.inf)
    x = np.where(law.level <= least, 0.0, np.where(law.fading > 0, fades, straight))
    limit = LOOKED * sizes[-1]
    farthest = np.log(limit / law.size)
    first = np.where(x <= farthest, law.size * np.exp(np.minimum(x, farthest)), np.inf)
    low, middle, high = np.quantile(first, [(1 - level) / 2, 0.5, (1 + level) / 2], method="nearest")
    known = [None if np.isinf(one) else float(one) for one in (middle, low, high)]
    return Vanishing(known[0], known[1], known[2], float(np.isfinite(first).mean()), float(limit))


def _verdict(target: Speedup, measured: Sequence[Speedup]) -> str:
    if target.low > 1:
        return "survives"
    if target.high <= GONE:
        return "vanishes" if any(one.low > 1 for one in measured) else "none"
    return "open"


def _purchase(cells: Cells, law: Trend, families: Sequence[Family], target: Speedup, level: float) -> Purchase | None:
    """Return the cheapest races that would tell the expected gain from none, else what narrows the answer most.

    What a race would add to a straight law does not depend on how it ends, so it is known before it is paid for.
    """
    from scipy import stats  # here, because importing it takes longer than all of the forecast

    now = np.flatnonzero(cells.length == cells.length.max())
    noise, deviation = float(np.median(np.diag(cells.covariance)[now])), float(np.mean(law.deviation**2))
    sizes = cells.size[now]
    seeds = int(np.median([len(f.contender.seeds) for f in families]))
    spent = float(sum(f.size * f.length * len(f.contender.seeds) for f in families))
    expected, width = abs(float(np.log(target.value))), float(stats.norm.ppf((1 + level) / 2))

    def half(at: FloatArray, errors: FloatArray) -> float:
        prior = np.array([LEVELS, max(SLOPES)]) ** 2
        middle = float(np.log(sizes).mean())
        design = np.column_stack([np.ones(len(at)), np.log(at) - middle])
        whole = (design * prior) @ design.T + np.diag(errors + deviation)
        asked = np.array([1.0, np.log(target.size) - middle])
        gained = np.linalg.solve(whole, design @ (prior * asked))
        variance = float(asked @ (prior * asked)) - float((design @ (prior * asked)) @ gained) + deviation
        return width * float(np.sqrt(max(variance, 0.0)))

    errors = np.diag(cells.covariance)[now]
    offers = []
    for factor in (2, 4, 8, 16):
        size = float(sizes.max()) * factor
        if size > 1.5 * target.size and factor > 2:
            continue
        offers.append(
            (
                f"size {size:,.0f} ({factor}x the largest), {seeds} seed{'s' * (seeds != 1)} of both arms",
                size * float(cells.length.max()) * seeds / spent,
                half(np.append(sizes, size), np.append(errors, noise)),
            )
        )
    for factor in (2, 4):
        more = (factor - 1) * seeds
        what = f"{more} more seeds of both arms at each of the {len(sizes)} sizes"
        offers.append((what, float(factor - 1), half(sizes, errors / factor)))
    made = [Purchase(what, cost, float(np.exp(width)), width < expected) for what, cost, width in offers]
    told = [one for one in made if one.tells]
    return min(told, key=lambda one: one.cost) if told else min(made, key=lambda one: (round(one.half, 2), one.cost))


def _left_out(
    cells: Cells, families: Sequence[Family], sizes: Sequence[float], level: float, seed: int
) -> tuple[Speedup, Speedup] | None:
    """Return the largest size measured, and predicted from the others."""
    if len(sizes) < 3:
        return None
    kept = np.flatnonzero(cells.size < sizes[-1])
    rest = Cells(
        cells.gain[kept],
        cells.covariance[np.ix_(kept, kept)],
        cells.size[kept],
        cells.length[kept],
        cells.family[kept],
        cells.freedom,
    )
    k = max((k for k, f in enumerate(families) if f.size == sizes[-1]), key=lambda k: families[k].length)
    law = trend(rest, seed=seed)
    noise = np.sqrt(cells.covariance[k, k]) * np.random.default_rng(seed + 2).standard_normal(len(law.level))
    drawn = law.at(sizes[-1], families[k].length, seed=seed + 1) + noise
    return _measured(cells, k, families[k], level), _speedup(sizes[-1], families[k].length, drawn, level)


def _warnings(
    families: Sequence[Family], sizes: Sequence[float], times: float, longer: float, cells: Cells
) -> list[str]:
    told = []
    if len(sizes) == 2:
        told.append("two sizes fix no trend: the interval rests on what gains do elsewhere; race at a third size")
    if times > FAR:
        told.append(f"the size asked for is {times:g} times the largest measured; beyond {FAR:g} times laws may change")
    lengths = {family.length for family in families}
    if longer != 1 and len(lengths) == 1:
        told.append(
            "all races have one length, so how the gain goes on with the length is read off within their runs, whose "
            "learning rates were tuned for their end; race with --horizons"
        )
    single = sorted({f.size for f in families if min(len(f.baseline.seeds), len(f.contender.seeds)) == 1})
    if single:
        told.append(
            f"size {', '.join(f'{one:g}' for one in single)} has one seed of an arm: how far another seed would be off "
            "is taken from elsewhere; run more seeds"
        )
    if any(f.baseline.seeds != f.contender.seeds for f in families):
        told.append("the arms ran on different seeds, so their luck does not cancel; run both on the same ones")
    rising = sorted({f.size for f in families if f.rises})
    if rising:
        told.append(
            f"at size {', '.join(f'{one:g}' for one in rising)} a loss rises again towards the end (it fits its data, "
            "or its learning rate is too large), where speed-ups mean little; race over fewer steps or more data"
        )
    if np.abs(cells.gain).max() > np.log(20):
        told.append("the arms are so far apart that their curves hardly meet: the speed-up is rough")
    return told
