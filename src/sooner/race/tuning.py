"""Equal tuning for every contender: the same number of quasi-random trials, the same points, the same edge check.

A method that is tuned harder than its rival wins by the tuning. So everyone, the baseline included, gets its default
and then points of one Halton sequence, mapped into its own space. Scores are (final value, mean of the curve), lower
is better, None for a diverged trial.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from sooner.error import SoonerError
from sooner.space import Knob, Log, Settings, Side, Space, Value

Score = tuple[float, float] | None


def trials(space: Mapping[str, Knob], default: Mapping[str, Value], count: int, start: int = 0) -> list[Settings]:
    """Return the settings of trials number `start` to `start + count - 1`.

    Trial 0 is the default; trial t is point t of the Halton sequence, mapped into the space in the order of its knobs.
    The sequence is plain, not scrambled: it then has no seed, is the same in every version of scipy, and in one
    dimension 1, 3, 7 points fall on the halves, quarters, eighths, which scrambling breaks at such small counts. Point
    0, the corner where all knobs are lowest, is never used. A further round continues the sequence with
    `start` = the number of trials already spent, so it falls between the points of the first round.

    Args:
        space: the knobs to tune; when empty, everything is pinned and only the default is left to try.
        default: settings of the part as it comes; entries without a knob are carried into every trial.
        count: how many trials.
        start: how many trials this contender has had before.

    Raises:
        SoonerError: a knob has no default, or there is not one trial to run.
    """
    if count < 1 or start < 0:
        raise SoonerError(f"tuning needs at least one trial, got count = {count} after {start}")
    missing = [name for name in space if name not in default]
    if missing:
        raise SoonerError(f"{', '.join(missing)} has a tuning range but no default: give both or neither")
    first = [dict(default)] if start == 0 else []
    if not space:
        return first
    points = unit_points(len(space), max(start, 1), start + count)
    return first + [
        {**default, **{name: knob.at(float(u)) for (name, knob), u in zip(space.items(), point, strict=True)}}
        for point in points
    ]


def unit_points(dimension: int, start: int, stop: int) -> NDArray[np.float64]:
    """Return points `start` to `stop - 1` of the plain Halton sequence, [stop - start, dimension] in (0, 1)."""
    if start >= stop:
        return np.empty((0, dimension))
    return qmc.Halton(dimension, scramble=False).random(stop)[start:]


def best(tried: Sequence[Settings], scores: Sequence[Score]) -> Settings | None:
    """Return the settings with the lowest final value, None when all diverged.

    Equal final values are told apart by the mean of the curve, then by order, so that a default is kept in doubt.
    """
    order = [
        (score[0], score[1] if math.isfinite(score[1]) else math.inf, index)
        for index, score in enumerate(scores)
        if score is not None and math.isfinite(score[0])
    ]
    return tried[min(order)[2]] if order else None


def edges(space: Mapping[str, Knob], tried: Sequence[Settings], scores: Sequence[Score]) -> dict[str, Side]:
    """Return the knobs whose best value lies on an edge, with the side: nothing was tried beyond it.

    A value beyond the best that did worse or diverged brackets it, and is no edge. Only logarithmic knobs are checked.
    They are the ones that decide (learning rates) and whose right order of magnitude may lie outside the range; with a
    handful of trials over several knobs, the best trial is the lowest or highest of some linear knob by chance alone.

    Args:
        space: the knobs.
        tried: settings of all trials of all rounds.
        scores: the score of each.

    Returns:
        {knob: "low" or "high"}; empty when all trials diverged. A knob of which a single value was tried was not
        tuned and is not listed, nor is a best value of 0 or below, which has no place on the range.
    """
    winner = best(tried, scores)
    if winner is None:
        return {}
    found: dict[str, Side] = {}
    for name, knob in space.items():
        value = _number(winner[name])
        values = {number for settings in tried if (number := _number(settings[name])) is not None}
        if not isinstance(knob, Log) or value is None or value <= 0 or len(values) < 2:
            continue
        if value == min(values):
            found[name] = "low"
        elif value == max(values):
            found[name] = "high"
    return found


def widening(space: Mapping[str, Knob], on_edge: Mapping[str, Side], winner: Mapping[str, Value]) -> Space:
    """Return the space of the extra round: knobs on an edge move beyond it, the others keep their range.

    The new range starts at the best value, since nothing was tried beyond that, and ends where the old range (or the
    best value, if a default lay outside) extended by half the width of the old range ends. Every contender gets the
    same number of extra trials, on an edge or not: the caller asks `trials` for them with `start`.

    Args:
        space: the knobs of the first round.
        on_edge: what `edges` returned.
        winner: what `best` returned.
    """
    widened: Space = dict(space)
    for name, side in on_edge.items():
        knob, value = space[name], _number(winner[name])
        if not isinstance(knob, Log) or value is None or value <= 0:
            raise SoonerError(f"{name} = {winner[name]!r} cannot be widened: only a positive logarithmic knob can")
        half = math.sqrt(knob.high / knob.low)
        if side == "low":
            widened[name] = Log(min(knob.low, value) / half, value)
        else:
            widened[name] = Log(value, max(knob.high, value) * half)
    return widened


def expected_best(scores: Sequence[float | None], higher_is_better: bool = False) -> list[float | None]:
    """Return the expected best of k trials for k = 1..K, drawn without replacement from the K that were run.

    Exact: the i-th best of K is the best of k drawn ones with probability C(K - i, k - 1) / C(K, k).

    Args:
        scores: final value of each trial; None, NaN or infinite for a diverged one, which counts as the worst.
        higher_is_better: the direction of the values.

    Returns:
        One value per k; None as long as all k may be diverged, where the expectation is infinite.
    """
    total = len(scores)
    sound = sorted((s for s in scores if s is not None and math.isfinite(s)), reverse=higher_is_better)
    return [
        None if k > len(sound) and not sound else _expectation(sound, total, k) if k > total - len(sound) else None
        for k in range(1, total + 1)
    ]


def best_so_far(scores: Sequence[float | None], higher_is_better: bool = False) -> list[float | None]:
    """Return the best of the first k trials for k = 1..K, for trials that build on the ones before.

    Args:
        scores: final value of each trial; None, NaN or infinite for a diverged one.
        higher_is_better: the direction of the values.

    Returns:
        One value per k; None as long as all have diverged.
    """
    best = max if higher_is_better else min
    sound = [[s for s in scores[:k] if s is not None and math.isfinite(s)] for k in range(1, len(scores) + 1)]
    return [best(some) if some else None for some in sound]


def _expectation(ordered: Sequence[float], total: int, k: int) -> float:
    ways = math.comb(total, k)
    return math.fsum(math.comb(total - i, k - 1) / ways * value for i, value in enumerate(ordered, start=1))


def _number(value: Value) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
