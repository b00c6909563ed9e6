"""What pairs of runs say: better, worse, no gain or no difference worth the trouble, or not yet known.

Three bets run along the seeds (`sooner.race.statistics.wealth`): against a gain of nothing, against one as large as is
worth having, and against a loss of that size. Each may be read after every seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sooner.error import SoonerError
from sooner.race import statistics
from sooner.race.limits import ALPHA, LEAST_SEEDS
from sooner.race.statistics.pairs import Array

BETTER, WORSE, NO_GAIN, SAME, UNDECIDED = "better", "worse", "no gain", "no difference", "undecided"


@dataclass(frozen=True)
class Worth:
    """The smallest difference that matters.

    Args:
        size: in units of the metric, or as a share of its value.
        relative: whether it is a share.
    """

    size: float
    relative: bool

    @classmethod
    def read(cls, text: str | float) -> Worth:
        """Read "1%", or 0.02 in the metric's own unit.

        Raises:
            SoonerError: it is no such number, or not positive.
        """
        written = str(text).strip()
        relative = written.endswith("%")
        try:
            size = float(written.removesuffix("%")) / (100 if relative else 1)
        except ValueError:
            size = math.nan
        if not (size > 0 and math.isfinite(size)) or (relative and size >= 1):
            raise SoonerError(
                f"worth {written!r} is no size of a difference; give a share such as 1%, or a number in the metric's "
                "unit"
            )
        return cls(size, relative)

    def show(self, size: float, sign: bool = False) -> str:
        """Return a difference in words, such as "1.2 %" or "0.03"."""
        plus = "+" if sign else ""
        return f"{100 * size:{plus}.3g} %" if self.relative else f"{size:{plus}.4g}"

    def __str__(self) -> str:
        return self.show(self.size)


@dataclass(frozen=True)
class Finding:
    """What the pairs say, and after how many.

    Args:
        outcome: one of `BETTER`, `WORSE`, `NO_GAIN`, `SAME` and `UNDECIDED`.
        seeds: pairs used.
        p: of "no gain and no loss"; holds at every look.
        gain: by how much the candidate is better; negative where it is worse, infinite where runs diverged.
        low, high: interval of the gain, 95 % at all looks at once.
    """

    outcome: str
    seeds: int
    p: float
    gain: float
    low: float
    high: float


def gains(baseline: Sequence[float], candidate: Sequence[float], *, higher_is_better: bool, relative: bool) -> Array:
    """Return by how much the candidate is better on each seed, float64 [seeds].

    A share is of the mean of both sizes, 2 (b - c) / (|b| + |c|), so that exchanging the two changes nothing but the
    sign, which the bets rest on.

    Args:
        baseline: values of the metric, one per seed; NaN and infinity are a diverged run, the worst value there is.
        candidate: the same of the candidate.
        higher_is_better: whether larger values are better.
        relative: whether gains are shares.

    Raises:
        SoonerError: shares are asked of a metric that changes its sign.
    """
    b, c = np.asarray(baseline, dtype=np.float64), np.asarray(candidate, dtype=np.float64)
    found = statistics.paired_differences(list(c), list(b), higher_is_better)
    if not higher_is_better:
        found = -found
    if relative:
        both = np.isfinite(b) & np.isfinite(c)
        values = np.concatenate([b[both], c[both]])
        if (values < 0).any() and (values > 0).any():
            raise SoonerError(
                "the metric is now positive and now negative, so a share of it says nothing; give --worth in its own "
                "unit, such as 0.05"
            )
        size = np.where(both & (b != c), (np.abs(b) + np.abs(c)) / 2, 1.0)
        found = np.where(both, found / size, found)
    return found


def decide(x: Array, level: float, worth: float, both_sides: bool = False) -> Finding:
    """Say what gains show at the first seed that decides, else after all of them.

    Args:
        x: gains in the order of the seeds.
        level: what p has to reach for "better", the candidate's share of the budget. Nobody keeps what is worse or
            no different, so for these the usual 5 % do.
        worth: the smallest gain or loss that matters, in the same unit.
        both_sides: go on until losses of that size are excluded too, or shown.
    """
    outcome, seeds = first_decision(x, level, worth, both_sides)
    if not seeds:
        return Finding(UNDECIDED, 0, 1.0, math.nan, -math.inf, math.inf)
    low, high = statistics.betting_interval(x[:seeds])
    return Finding(outcome, seeds, statistics.betting_p(x[:seeds]), statistics.center(x[:seeds]), low, high)


def first_decision(x: Array, level: float, worth: float, both_sides: bool = False) -> tuple[str, int]:
    """Return the outcome and the seeds that it takes; the arguments are those of `decide`."""
    n = len(x)
    if not n:
        return UNDECIDED, 0
    zero, up, down = (np.maximum.accumulate(statistics.wealth(x - m)) for m in (0.0, worth, -worth))
    for k in range(LEAST_SEEDS, n + 1):
        no_gain, no_loss = up[k - 1] >= 1 / ALPHA, down[k - 1] >= 1 / ALPHA
        if not no_gain and zero[k - 1] < 1 / max(ALPHA, level):
            continue
        gain = statistics.center(x[:k])
        if no_gain and no_loss and abs(gain) < worth:
            return SAME, k
        if gain > 0 and zero[k - 1] >= 1 / level:
            return BETTER, k
        if gain < 0 and zero[k - 1] >= 1 / ALPHA:
            return WORSE, k
        if no_gain and gain < worth and not both_sides:
            return NO_GAIN, k
    return UNDECIDED, n
