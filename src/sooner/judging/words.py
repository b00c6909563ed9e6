"""What came out, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from sooner.judging.evidence import BETTER, NO_GAIN, SAME, UNDECIDED, WORSE, Finding, Worth
from sooner.judging.ledger import Ledger


def sentence(
    found: Finding,
    names: tuple[str, str],
    metric: str,
    worth: Worth,
    *,
    level: float,
    number: int,
    identical: bool = False,
) -> str:
    """Return one sentence that says which of the two to keep, and why."""
    baseline, candidate = names
    after = f"after {found.seeds} seeds"
    if identical:
        return f"{SAME} worth {worth}: {candidate} gives the very same numbers as {baseline} on {found.seeds} seeds."
    if not found.seeds:
        return f"{UNDECIDED}: the budget ended before the first pair of runs was complete."
    by = f"{_size(found.gain, worth)} (95 % interval {_interval(found, worth)})"
    reached = f"p = {found.p:.2g}, where candidate {number} of the ledger had to reach {level:.2g}"
    if found.outcome == BETTER:
        return f"{BETTER}: in {metric}, {candidate} beats {baseline} by {by} {after}; {reached}."
    if found.outcome == WORSE:
        return f"{WORSE}: in {metric}, {candidate} loses to {baseline} by {by} {after}."
    if found.outcome == NO_GAIN:
        gain = end_of(found.gain, worth, sign=True)
        between = f"{end_of(found.low, worth)} to {end_of(found.high, worth)}"
        return (
            f"{NO_GAIN} worth {worth}: in {metric}, {candidate} does not beat {baseline} by so much; its gain is "
            f"{gain} (95 % interval {between}) {after}."
        )
    if found.outcome == SAME:
        return f"{SAME} worth {worth}: in {metric}, {candidate} and {baseline} are {by} apart {after}."
    return (
        f"{UNDECIDED}: in {metric}, {candidate} and {baseline} are {by} apart {after}; {reached}. The same command "
        "with more --seeds or --seconds goes on from here."
    )


def notes(
    baseline: Sequence[float], candidate: Sequence[float], names: tuple[str, str], ledger: Ledger, *, identical: bool
) -> Iterator[str]:
    """Yield what one should know besides."""
    for name, values in zip(names, (baseline, candidate), strict=True):
        lost = sum(not math.isfinite(value) for value in values)
        if lost:
            yield f"{name} diverged on {lost} of {len(values)} seeds, which counts as infinitely bad"
    if identical:
        yield "if the change should matter, check that the program runs the code of the folder that it is started in"
    kept = len(ledger.discoveries())
    if kept:
        of = len(ledger.all("level"))
        yield f"{kept} of {of} candidates were kept; at most {100 * ledger.q:g} % of those are expected to be luck"


def _size(gain: float, worth: Worth) -> str:
    return worth.show(abs(gain)) if math.isfinite(gain) else "more than can be measured"


def _interval(found: Finding, worth: Worth) -> str:
    """Return the interval on the side that the sentence speaks of."""
    low, high = (-found.high, -found.low) if found.gain < 0 else (found.low, found.high)
    return f"{end_of(low, worth)} to {end_of(high, worth)}"


def end_of(value: float, worth: Worth, sign: bool = False) -> str:
    """Return a gain or an end of its interval in words."""
    return worth.show(value, sign) if math.isfinite(value) else ("-∞" if value < 0 else "∞")
