"""Forest plots: the steps ratio of every contender at three targets, and its cost per step."""

from typing import Any

from sooner.report import words
from sooner.report.figures.base import Figure, RatioAxis, Rows, Trace, colour, escape
from sooner.report.numbers import number, ratio_interval, times, unknown

WORD = {"color": "@ink", "size": 12}
MARKERS = {"loose": "circle-open", "middle": "circle", "tight": "diamond"}


def steps_ratios(result: words.Result) -> Figure | None:
    """Return the steps ratios with intervals, the noise floor as a band; None where nothing raced the baseline."""
    targets = tuple(name for name in words.TARGETS if (result["targets"] or {}).get(name) is not None)
    chosen = [
        position
        for position, contender in words.ordered(result)
        if words.raced(contender) and not contender.get("baseline") and any(words.at(contender, t) for t in targets)
    ]
    if not chosen or not targets:
        return None
    floor = result.get("noise_floor")
    rows = Rows(result, chosen, targets)
    contenders = result["contenders"]
    bars = {
        (place, entry): words.at(contenders[position], target)
        for place, position in enumerate(chosen)
        for entry, target in enumerate(targets)
        if words.at(contenders[position], target)
    }
    scale = RatioAxis([bar.get(key) for bar in bars.values() for key in ("ratio", "low", "high")])
    traces: list[Trace] = []
    for (place, entry), bar in bars.items():
        ratio = words.steps_ratio(contenders[chosen[place]], result, targets[entry])
        told = f"{targets[entry]} target: {ratio}, {words.hits(bar)} hits"
        note = f"{escape(rows.names[chosen[place]])}<br>{escape(told)}"
        traces += bar_traces(bar, scale, rows.y(place, entry), chosen[place], MARKERS[targets[entry]], note)
    shapes, annotations = [line_at_one()], []
    if floor and not unknown(floor):
        low, high = floor.get("low"), floor.get("high")
        # The referee counts the noise floor as holding 1, so the band does too.
        left = scale.left if low is None else min(max(low, scale.left), 1.0)
        right = scale.right if high is None else max(min(high, scale.right), 1.0)
        shapes.insert(0, band(left, right))
        annotations.append(
            {
                "x": 1,
                "xref": "paper",
                "xanchor": "right",
                "y": 1,
                "yref": "paper",
                "yanchor": "bottom",
                "text": f"shaded: A/A noise floor, {escape(ratio_interval(floor))}",
                "showarrow": False,
                "font": {"color": "@quiet", "size": 12},
            }
        )
    axis = scale.axis("steps to target, relative to the baseline")
    return {"data": traces, "layout": rows.layout(axis, top=28, shapes=shapes, annotations=annotations)}


def cost_per_step(result: words.Result) -> Figure | None:
    """Return the cost of one step relative to the baseline; None where it is withheld or was not measured."""
    chosen = [
        position
        for position, contender in words.ordered(result)
        if not contender.get("baseline") and (contender.get("cost") or {}).get("ratio") is not None
    ]
    if not chosen or (result.get("timing") or {}).get("withheld"):
        return None
    costs = [result["contenders"][position]["cost"] for position in chosen]
    costs = [{key: cost["ratio"] if cost.get(key) is None else cost[key] for key in cost} for cost in costs]
    rows = Rows(result, chosen)
    scale = RatioAxis([cost.get(key, cost["ratio"]) for cost in costs for key in ("ratio", "low", "high")])
    traces: list[Trace] = []
    for place, (position, cost) in enumerate(zip(chosen, costs, strict=True)):
        note = f"{escape(rows.names[position])}<br>{ratio_interval(cost)}, {number(cost.get('milliseconds'))} ms a step"
        traces += bar_traces(cost, scale, rows.y(place), position, "circle", note)
    axis = scale.axis("cost of one step, relative to the baseline")
    return {"data": traces, "layout": rows.layout(axis, shapes=[line_at_one()])}


def line_at_one() -> dict[str, Any]:
    """Return the vertical line where nothing changed."""
    return {
        "type": "line",
        "x0": 1,
        "x1": 1,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "line": {"color": "@quiet", "width": 1.5},
        "layer": "below",
    }


def band(low: float, high: float) -> dict[str, Any]:
    """Return a shaded vertical band over the whole height."""
    return {
        "type": "rect",
        "x0": low,
        "x1": high,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "fillcolor": "@ink/0.09",
        "line": {"width": 0},
        "layer": "below",
    }


def bar_traces(bar: dict[str, Any], scale: RatioAxis, y: float, position: int, marker: str, note: str) -> list[Trace]:
    """Return the interval as a line and the ratio as a marker; an infinite one is an arrow at the edge with a word."""
    ends = [scale.place(bar.get("low")), scale.place(bar.get("high"))]
    paint = colour(position)
    common = {"type": "scatter", "legendgroup": str(position), "hoverinfo": "text", "hovertext": note}
    line = {
        **common,
        "mode": "lines+markers",
        "x": ends,
        "y": [y, y],
        "line": {"color": paint, "width": 2.5},
        "marker": {"color": paint, "size": 9, "symbol": [end_marker(scale, bar.get(key)) for key in ("low", "high")]},
    }
    value = bar.get("ratio")
    side = scale.off(value)
    if unknown(bar):
        return [line, {**common, "x": [1], "y": [y], "mode": "text", "text": ["unknown"], "textfont": WORD}]
    if not side:
        point: Trace = {
            "mode": "markers",
            "marker": {"color": paint, "size": 11, "symbol": marker, "line": outline(paint)},
        }
    else:
        point = {
            "mode": "markers+text",
            "marker": {"color": paint, "size": 11, "symbol": f"triangle-{side}"},
            "text": [times(value)],
            "textposition": f"middle {side}",
            "cliponaxis": False,
            "textfont": WORD,
        }
    return [line, {**common, "x": [scale.place(value)], "y": [y], **point}]


def outline(paint: str) -> dict[str, Any]:
    """Return the line around a marker, which is all there is to an open one."""
    return {"color": paint, "width": 2}


def end_marker(scale: RatioAxis, value: float | None) -> str:
    """Return the marker at the end of an interval: a tick, or an arrow where it runs off the axis."""
    side = scale.off(value)
    return f"triangle-{side}" if side else "line-ns-open"
