"""The answer of `sooner forecast gain-of-decay`: what cool-downs took off the loss, and what the next one will."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from sooner.forecast.decide.gain_of_decay import Cooled, GainOfDecay
from sooner.report.forecast.answer import Answer, Cell, Grid, Line, Plot
from sooner.report.forecast.build import percent

MOST = 20
"""Rows of a grid."""


def of_gain_of_decay(made: GainOfDecay, notes: tuple[str, ...]) -> Answer:
    """Return the answer of `sooner forecast gain-of-decay`."""
    share = f"{percent(made.share)} [{100 * made.low:.3g}, {100 * made.high:.3g}] of the loss"
    count = len(made.known)
    source = f"by {count} that ran" if count else "by published runs"
    headline = f"a cool-down takes {share} ({source})"
    if made.ahead:
        one = made.ahead[-1]
        headline = f"{one.run} ends at {one.value:.4g} {_band(one)} if it is cooled down now, at {one.before:.4g}; " + (
            headline
        )
    grids = []
    if made.ahead:
        rows: list[list[Cell]] = [
            [one.run, one.before, one.value, _band(one), percent(1 - one.value / one.before)] for one in made.ahead
        ]
        heads: tuple[str, ...] = ("run", "loss now", "after a cool-down", f"{made.level:.0%} interval", "taken off")
        grids.append(Grid("Runs before their cool-down", heads, rows[-MOST:]))
    if made.known:
        rows = [
            [
                one.run,
                None if np.isnan(one.parameters) else one.parameters,
                *(percent(v) for v in (one.length, one.end)),
                one.before,
                one.after,
                percent(one.share),
            ]
            for one in made.known
        ]
        heads = ("run", "parameters", "decay", "ends at", "loss before", "loss after", "taken off")
        more = f", the last {MOST} of {count} shown" if count > MOST else ""
        title = f"Cool-downs that ran, with their share of the steps and of the largest rate{more}"
        grids.append(Grid(title, heads, rows[-MOST:]))
    if made.left:
        grids.append(_left(made))
    return Answer(
        "What does a cool-down take off the loss?",
        headline,
        grids,
        _plots(made),
        made.warnings,
        notes,
        {
            "share": {"value": made.share, "low": made.low, "high": made.high, "level": made.level},
            "ahead": [asdict(one) for one in made.ahead],
            "known": [{**asdict(one), "share": one.share} for one in made.known],
            "left_out": [{**asdict(one), "inside": one.inside} for one in made.left],
        },
    )


def _band(one: Cooled) -> str:
    return f"[{one.low:.4g}, {one.high:.4g}]"


def _left(made: GainOfDecay) -> Grid:
    """Return what the others said of runs left out, beside taking off the same nats."""
    rows: list[list[Cell]] = []
    for one in made.left[:MOST]:
        off, nats = (abs(value / one.measured - 1) for value in (one.value, one.by_nats))
        held = "yes" if one.inside else "no"
        rows.append([one.run, one.measured, one.value, _band(one), percent(off), percent(nats), held])
    off, nats = (
        float(np.mean([abs(getattr(one, name) / one.measured - 1) for one in made.left]))
        for name in ("value", "by_nats")
    )
    covered = percent(float(np.mean([one.inside for one in made.left])))
    rows.append(["mean", None, None, None, percent(off), percent(nats), covered])
    heads = (
        "left out",
        "measured",
        "forecast",
        f"{made.level:.0%} interval",
        "error",
        "by nats",
        "held",
    )
    return Grid("What the others say of those left out, beside taking off the same nats", heads, rows)


def _plots(made: GainOfDecay) -> list[Plot]:
    """Return the loss before and after, with the forecast of what is ahead."""
    lines = []
    if made.known:
        order = np.argsort([one.before for one in made.known], kind="stable")
        before, after = (np.array([getattr(made.known[k], name) for k in order]) for name in ("before", "after"))
        lines.append(Line("measured", before, after, dots=True))
    if made.ahead:
        order = np.argsort([one.before for one in made.ahead], kind="stable")
        x, y, low, high = (
            np.array([getattr(made.ahead[k], name) for k in order]) for name in ("before", "value", "low", "high")
        )
        lines.append(Line("forecast", x, y, low, high))
    return [Plot("Cool-downs", "loss before", "loss after", lines)] if lines else []
