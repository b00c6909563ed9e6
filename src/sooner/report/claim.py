"""The outcome of a claim as text for the terminal: what the paper says, what was found here, and the verdict."""

from __future__ import annotations

import math

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sooner.claims._claim import Measured, Outcome
from sooner.claims._evidence import Evidence


def card(evidence: Evidence) -> Group:
    """Return headline, criteria with figures, trend, limits and verdict."""
    said = evidence.said
    criteria = Table("criterion, fixed before the run", "paper", "here", "met", box=None, pad_edge=False)
    for outcome in evidence.outcomes:
        criteria.add_row(outcome.role + outcome.says, outcome.paper or "-", figure(outcome.measured), met(outcome))
    parts: list[RenderableType] = [
        Text(f"{evidence.claim}: {said['headline']}"),
        Text(f"source: {said['source']}"),
        Text(""),
        criteria,
    ]
    if evidence.trend:
        trend = Table("trend", "", box=None, pad_edge=False)
        for label, measured in evidence.trend.items():
            trend.add_row(label, figure(measured))
        parts += [Text(""), trend]
    if evidence.regime:
        regime = Table("regime", "", box=None, pad_edge=False)
        for label, words in evidence.regime.items():
            regime.add_row(label, words)
        parts += [Text(""), regime]
    if said["limits"]:
        parts += [Text(""), Text(f"limits: {said['limits']}")]
    older = evidence.older_than_code()
    age = f" (older than {', '.join(older)})" if older else ""
    return Group(*parts, Text(""), Text(f"verdict: {sentence(evidence)}{age}", style="bold"))


def sentence(evidence: Evidence) -> str:
    """Return the verdict, what an answer would take where there is none, and how the effect changes with size."""
    parts: list[str] = [evidence.verdict]
    takes = [o.takes for o in evidence.outcomes if o.met is None and o.takes and not o.control and not o.positive]
    if takes and evidence.verdict != "reproduced":
        parts.append(
            f"an answer {'' if len(takes) == 1 else 'to all of it '}would take {' and '.join(dict.fromkeys(takes))}"
        )
    parts += [f"{label}: {change(measured)}" for label, measured in evidence.changes.items()]
    return "; ".join(parts)


def change(measured: Measured) -> str:
    """Return in words how a ratio changes, such as "the ratio is multiplied by 1.04x [0.98, 1.1], no trend seen"."""
    if measured.undecided or measured.low is None or measured.high is None:
        return f"can't say ({measured.undecided or 'no interval'})"
    moved = (
        "no trend seen"
        if measured.low <= 1 <= measured.high
        else "the gain shrinks"
        if measured.value > 1
        else "the gain grows"
    )
    return f"the ratio is multiplied by {figure(measured)}, {moved}"


def figure(measured: Measured) -> str:
    """Return a figure with its unit and interval, such as "0.61x [0.58, 0.63]".

    A ratio with an interval that is 0 or infinite says who arrives: "only it", or "never" it. Once it is infinite, an
    interval from 0 or from infinity on says nothing more and is left out.
    """
    value, low, high = measured.value, measured.low, measured.high
    if measured.undecided and math.isnan(value):
        return "-"
    if low is None or high is None:
        return number(value) + measured.unit * math.isfinite(value)
    if measured.unit != "x":
        return f"{number(value)}{measured.unit * math.isfinite(value)} [{number(low)}, {number(high)}]"
    if value == 0:
        return "only it arrives"
    if math.isinf(value):
        return "never" if low == 0 or math.isinf(low) else f"never [{number(low)}, {number(high)}]"
    return f"{number(value)}x [{number(low) if low else 'only it'}, {number(high)}]"


def number(value: float) -> str:
    """Return a number with three significant digits, "never" for an infinite one."""
    return "never" if math.isinf(value) else f"{value:.3g}"


def met(outcome: Outcome) -> str:
    """Return whether a criterion was met, and why it can't be said where it can't."""
    if outcome.met is None:
        return f"can't say: {outcome.why}{f' (it would take {outcome.takes})' if outcome.takes else ''}"
    return "yes" if outcome.met else "no"
