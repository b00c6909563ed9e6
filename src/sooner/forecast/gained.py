"""What is known of a gain, and the sentence that says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sooner.forecast.table import FloatArray

SURE = 0.95
"""Share of the draws that has to agree before a direction, or where a gain vanishes, is said."""


@dataclass(frozen=True)
class Speedup:
    """A speed-up with its interval.

    Args:
        size: parameters.
        length: steps.
        value: steps of the baseline over steps of the contender to equal loss.
        low: lower end.
        high: upper end.
        seeds: of the contender; 0 where nothing was measured.
    """

    size: float
    length: float
    value: float
    low: float
    high: float
    seeds: int = 0


@dataclass(frozen=True)
class Vanishing:
    """Where no gain is left.

    Args:
        size: parameters, the median; None where most draws keep a gain.
        low: lower end.
        high: upper end, None for beyond what was looked at.
        share: share of the draws in which it vanishes in the range looked at.
        limit: the largest size looked at.
    """

    size: float | None
    low: float | None
    high: float | None
    share: float
    limit: float


@dataclass(frozen=True)
class Purchase:
    """Races that would narrow the answer.

    Args:
        what: in words.
        cost: over what the races so far took, in steps times parameters.
        half: the factor by which the answer would be off either way.
        tells: whether a gain of the size expected would then be told from none.
    """

    what: str
    cost: float
    half: float
    tells: bool


@dataclass(frozen=True)
class Gain:
    """What is known of one contender's gain.

    Args:
        baseline: its name.
        contender: its name.
        measured: at every size and length that was raced.
        target: at the size and length asked for, as a race there would measure it.
        verdict: "survives", "vanishes", "none" or "open".
        sentence: the answer in words.
        direction: "grows", "shrinks" or "no trend told".
        vanishing: where no gain is left.
        buy: what to race next where the answer is open, else None.
        along: (n,) sizes.
        value: (n,) fitted speed-ups there.
        low: (n,) lower ends.
        high: (n,) upper ends.
        left_out: the largest size measured, and as predicted without it; None with fewer than three sizes.
        laws: share of each law of the trend.
        level: of the intervals.
        warnings: why to doubt it.
        notes: what was read.
    """

    baseline: str
    contender: str
    measured: list[Speedup]
    target: Speedup
    verdict: str
    sentence: str
    direction: str
    vanishing: Vanishing
    buy: Purchase | None
    along: FloatArray
    value: FloatArray
    low: FloatArray
    high: FloatArray
    left_out: tuple[Speedup, Speedup] | None
    laws: Mapping[str, float]
    level: float
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def sentence(
    baseline: str,
    contender: str,
    verdict: str,
    target: Speedup,
    largest: Speedup,
    direction: str,
    vanishing: Vanishing,
    buy: Purchase | None,
    times: float,
) -> str:
    """Return the answer in words, for a target `times` the largest size that was raced."""
    there = f"at {target.size:,.0f} parameters ({times:g} times the largest) and {target.length:,.0f} steps"
    here = f"{shown(largest)} at the largest size raced"
    trend_words = {"grows": "it grows with the size", "shrinks": "it shrinks with the size"}.get(
        direction, "no trend with the size can be told"
    )
    gone = ""
    if vanishing.size is not None and vanishing.share >= SURE:
        high = f"beyond {vanishing.limit:.2g}" if vanishing.high is None else f"{vanishing.high:.2g}"
        gone = f"; it vanishes at {vanishing.size:.2g} parameters [{vanishing.low:.2g}, {high}]"
    if verdict == "survives":
        return f"the gain of {contender} over {baseline} survives: {shown(target)} {there}; {here}, {trend_words}"
    if verdict == "vanishes":
        return f"the gain of {contender} over {baseline} vanishes: {shown(target)} {there}; {here}{gone}"
    if verdict == "none":
        return f"{contender} has no gain over {baseline} to survive: {shown(target)} {there}; {here}"
    advice = ""
    if buy is not None:
        told = "would tell it" if buy.tells else "would narrow it most"
        advice = f"; buy {buy.what}: for {buy.cost:.2g}x of what these races took it {told} (to within {buy.half:.2f}x)"
    return (
        f"whether the gain of {contender} over {baseline} survives can't be told from these sizes: {shown(target)} "
        f"{there}; {here}, {trend_words}{gone}{advice}"
    )


def shown(one: Speedup) -> str:
    """Return a speed-up with its interval as text."""
    return f"{one.value:.2f}x [{one.low:.2f}, {one.high:.2f}]"
