"""One figure that an experiment found, with what is known about its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """One figure and what is known about its uncertainty.

    Attributes:
        value: the figure; infinite for a ratio of steps where the target is missed.
        low: lower end of its 95 % interval, None where the figure is exact or has no interval.
        high: upper end.
        p: p-value of "no difference", after Holm over the contenders of its race; None where nothing was tested.
        floor: interval of the A/A arm of its race, None outside a race.
        unit: what it counts, such as "x" for a ratio.
        undecided: why the experiment can't say, in half a sentence; empty where it can.
        spread: standard deviation of the logarithms of the ratios of single seeds, None where there is none. It says
            how small an effect the experiment could have seen.
        pairs: seeds behind the figure; 0 where it does not rest on pairs of them.
        level: of its test, after corrections.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    floor: tuple[float, float] | None = None
    unit: str = ""
    undecided: str = ""
    spread: float | None = None
    pairs: int = 0
    level: float = 0.05
