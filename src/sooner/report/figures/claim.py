"""The plots of a claim's evidence: its figures with intervals against their limits, and mean learning curves."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sooner.claims._evidence import Evidence
from sooner.claims._measured import Measured
from sooner.report.claim import figure, met
from sooner.report.figures.base import Figure, RatioAxis, Trace, axis, colour, dash, escape, labels, layout, symbol
from sooner.report.figures.ratios import WORD, line_at_one
from sooner.report.numbers import count, number

LINE = 18
"""Height of a line of text in pixels."""
WIDTH = 44
"""Characters of a line of text that fit on a phone."""
STYLES = {True: ("circle", "@good"), False: ("x", "@bad"), None: ("diamond-open", "@open")}
"""Symbol and colour of a criterion that was met, was not met, or is open."""


@dataclass(frozen=True)
class Row:
    """One figure to draw.

    Attributes:
        says: the text above it.
        measured: the figure.
        style: symbol and colour.
        note: what hovering over it tells.
        limit: the criterion's limit, None where it is not known.
        paper: the paper's figure, None where it is no number.
    """

    says: str
    measured: Measured
    style: tuple[str, str]
    note: str
    limit: float | None = None
    paper: float | None = None


def build(evidence: Evidence) -> dict[str, Figure]:
    """Return the plots that the evidence has data for: criteria by unit, the trend, curves by experiment."""
    drawn: dict[str, Figure] = {}
    for unit, rows in _by_unit(_criteria(evidence)).items():
        drawn[f"criteria ({unit})" if unit != "x" else "criteria"] = forest(rows, unit)
    trend = [Row(says, m, ("circle", colour(1)), figure(m)) for says, m in evidence.trend.items()]
    for unit, rows in _by_unit(trend).items():
        drawn[f"trend ({unit})" if unit != "x" else "trend"] = forest(rows, unit)
    for name, found in evidence.findings.items():
        if "contenders" in found and (curves := mean_curves(found)):
            drawn[f"curves: {name}"] = curves
    return drawn


def _criteria(evidence: Evidence) -> list[Row]:
    return [
        Row(
            o.role + o.says,
            o.measured,
            STYLES[o.met],
            f"{figure(o.measured)}, met: {met(o)}",
            o.limit,
            _stated(o.paper, o.measured.unit),
        )
        for o in evidence.outcomes
    ]


def _stated(paper: str, unit: str) -> float | None:
    """Return the paper's figure where it is a number of the same unit, such as "0.74x"."""
    found = re.fullmatch(r"(?:about |≈ ?)?(\d+(?:\.\d+)?) ?(\S*)", paper.strip())
    return float(found.group(1)) if found and found.group(2) == unit.strip() else None


def _by_unit(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows that can be drawn, those of one unit together; what has no unit stands for itself."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        value = row.measured.value
        if math.isnan(value) or (math.isinf(value) and row.measured.unit != "x"):
            continue
        groups.setdefault(row.measured.unit.strip() or row.says, []).append(row)
    return groups


def forest(rows: Sequence[Row], unit: str) -> Figure:
    """Return figures under each other, each with its interval, its limit and, in a race, the A/A noise floor."""
    scale = RatioAxis([None if math.isinf(v) else v for row in rows for v in _values(row)]) if unit == "x" else None
    traces: list[Trace] = []
    shapes: list[dict[str, Any]] = [line_at_one()] if scale else []
    texts: list[dict[str, Any]] = []
    y = 0.0
    for row in rows:
        lines = textwrap.wrap(row.says, WIDTH)
        texts.append(_text("<br>".join(map(escape, lines)), y - len(lines) / 2))
        y -= len(lines) + 0.9
        if scale and row.measured.floor:
            shapes.append(_floor(row.measured.floor, scale, y))
        if row.limit is not None:
            shapes.append(_tick(scale.place(row.limit) if scale else row.limit, y, "@ink", "dot"))
        traces += _bar(row, scale, y)
        y -= 1.3
    height = round(-y * LINE) + 64
    title = "ratio to the baseline" if unit == "x" else unit
    drawn = layout(
        height,
        xaxis=scale.axis(title) if scale else _plain_axis(title if len(title) <= WIDTH else None, rows),
        yaxis=axis(range=[y, 0.3], fixedrange=True, showgrid=False, showline=False, showticklabels=False, ticks=""),
        margin={"l": 12, "r": 16, "t": 8, "b": 52},
        shapes=shapes,
        annotations=texts,
    )
    return {"data": traces, "layout": drawn}


def _values(row: Row) -> list[float]:
    m = row.measured
    return [v for v in (m.value, m.low, m.high, row.limit, row.paper) if v is not None]


def _plain_axis(title: str | None, rows: Sequence[Row]) -> dict[str, Any]:
    """Return an axis for figures that are no ratios, logarithmic where they span more than two decades."""
    values = [v for row in rows for v in _values(row) if math.isfinite(v)]
    low, high = min(values), max(values)
    if low > 0 and high / low > 100:
        room = 0.08 * math.log10(high / low)
        ends = [math.log10(low) - room, math.log10(high) + room]
        return axis(title, type="log", range=ends, nticks=6, exponentformat="power")
    room = 0.08 * (high - low) or abs(high) * 0.2 or 1.0
    form = "none" if high - low > 1e-4 else "power"
    return axis(title, range=[low - room, high + room], nticks=5, exponentformat=form, separatethousands=True)


def _bar(row: Row, scale: RatioAxis | None, y: float) -> list[Trace]:
    """Return a figure with its interval, and the paper's figure where it is one."""
    m, (mark, paint) = row.measured, row.style
    place = scale.place if scale else (lambda value: 0.0 if value is None else value)
    value = place(None if math.isinf(m.value) else m.value)
    common = {"type": "scatter", "hoverinfo": "text"}
    traces: list[Trace] = []
    if m.low is not None and m.high is not None:
        ends = [place(None if math.isinf(end) else end) for end in (m.low, m.high)]
        line = {"color": paint, "width": 2.5}
        traces.append({**common, "mode": "lines", "x": ends, "y": [y, y], "line": line, "hoverinfo": "skip"})
    note = f"{escape(row.says)}<br>{escape(row.note)}"
    side = scale.off(None if math.isinf(m.value) else m.value) if scale else ""
    marker = {"color": paint, "size": 11, "symbol": f"triangle-{side}" if side else mark}
    point: Trace = {"mode": "markers", "x": [value], "y": [y], "marker": marker, "hovertext": [note]}
    if side:
        word = {"text": [figure(m).split(" [")[0]], "textposition": "middle right", "textfont": WORD}
        point = {**point, "mode": "markers+text", **word, "cliponaxis": False}
    traces.append({**common, **point})
    if row.paper is not None:
        marker = {"color": "@quiet", "size": 10, "symbol": "triangle-down"}
        told = [f"{escape(row.says)}<br>the paper: {number(row.paper)}"]
        above = {"mode": "markers", "x": [place(row.paper)], "y": [y + 0.55], "marker": marker, "hovertext": told}
        traces.append({**common, **above})
    return traces


def _floor(floor: tuple[float, float], scale: RatioAxis, y: float) -> dict[str, Any]:
    """Return the band of the A/A arm behind a row; the referee counts it as holding 1, so the band does too."""
    low, high = min(max(floor[0], scale.left), 1.0), max(min(floor[1], scale.right), 1.0)
    box = {"type": "rect", "x0": low, "x1": high, "y0": y - 0.5, "y1": y + 0.5}
    return {**box, "fillcolor": "@ink/0.09", "line": {"width": 0, "color": "@clear"}, "layer": "below"}


def _tick(x: float, y: float, paint: str, style: str) -> dict[str, Any]:
    line = {"color": paint, "width": 2, "dash": style}
    return {"type": "line", "x0": x, "x1": x, "y0": y - 0.6, "y1": y + 0.6, "line": line}


def _text(text: str, y: float) -> dict[str, Any]:
    place = {"x": 0, "xref": "paper", "xanchor": "left", "y": y, "yanchor": "middle", "align": "left"}
    text = text.replace("$", "&#36;")  # between two dollars Plotly expects mathematics
    return {**place, "text": text, "showarrow": False, "font": {"color": "@ink", "size": 13}}


def mean_curves(found: Mapping[str, Any]) -> Figure | None:
    """Return the mean learning curve of each contender of a race, with the range of its seeds; None without curves."""
    rows = [row for row in found["contenders"] if len(row["curve"]["steps"]) > 1]
    if not rows:
        return None
    names = labels({"contenders": rows})
    traces: list[Trace] = []
    for position, row in enumerate(rows):
        curve = row["curve"]
        common = {"type": "scatter", "mode": "lines", "legendgroup": str(position), "name": escape(names[position])}
        band = {
            "x": [*curve["steps"], *reversed(curve["steps"])],
            "y": [*curve["low"], *reversed(curve["high"])],
            "fill": "toself",
            "fillcolor": colour(position, 0.16),
            "line": {"width": 0, "color": "@clear"},
            "hoverinfo": "skip",
            "showlegend": False,
        }
        notes = [
            f"{escape(names[position])}<br>step {count(int(step))}: mean {number(mean, 4)}"
            for step, mean in zip(curve["steps"], curve["mean"], strict=True)
        ]
        line = {
            "x": curve["steps"],
            "y": curve["mean"],
            "line": {"color": colour(position), "width": 2.5, "dash": dash(position)},
            "marker": {"symbol": symbol(position), "color": colour(position)},
            "hoverinfo": "text",
            "hovertext": notes,
        }
        traces += [{**common, **band}, {**common, **line}]
    goal = (found.get("targets") or {}).get(found.get("primary_target"))
    best = max if found["task"]["higher_is_better"] else min
    # A run that diverges must not flatten the others, nor the first fall, which is much the same for all.
    ends = [v for row in rows for v in (best(row["curve"]["mean"][:2]), best(row["curve"]["mean"]))]
    ends += [] if goal is None else [goal]
    low, high = min(ends), max(ends)
    room = 0.05 * (high - low) or abs(high) * 0.05 or 1.0
    end = max(row["curve"]["steps"][-1] for row in rows)
    if goal is not None:
        line = {"color": "@quiet", "width": 1, "dash": "dash"}
        target = {"type": "scatter", "mode": "lines", "x": [0, end], "y": [goal, goal], "line": line}
        traces.append({**target, "hoverinfo": "skip", "name": f"{escape(found['primary_target'])} target"})
    drawn = layout(
        400,
        xaxis=axis("steps", range=[0, end * 1.01]),
        yaxis=axis(found["task"]["metric"], range=[low - room, high + room]),
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom", "bgcolor": "@clear"},
    )
    drawn["margin"] = {**drawn["margin"], "t": 12}
    return {"data": traces, "layout": drawn}
