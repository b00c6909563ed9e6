"""Learning curves: a thin line per seed, the median and the middle half of the seeds per contender."""

import math
from collections import defaultdict
from typing import Any

from sooner.report import words
from sooner.report.figures.base import Figure, Trace, axis, colour, dash, escape, labels, layout
from sooner.report.numbers import count, number

Curve = dict[str, Any]

AGAIN = "a/a"


def learning_curves(result: words.Result) -> Figure | None:
    """Return the evaluation curves of all racing seeds with the targets; None where no curve was recorded."""
    task = result["task"]
    higher = bool(task.get("higher_is_better"))
    names = labels(result)
    curves = [curve for contender in result["contenders"] for curve in contender.get("curves") or []]
    if not any(known(curve) for curve in curves):
        return None
    linear, logarithmic = ranges(result, curves, higher)
    traces: list[Trace] = []
    for position, contender in words.ordered(result):
        drawn = contender.get("curves") or []
        traces += contender_traces(drawn, str(position), position, names[position], higher, linear)
    again = contender_traces(result.get("a/a_curves") or [], AGAIN, 0, "the baseline again", higher, linear)
    traces += [{**trace, "visible": False} for trace in again]
    end = max((step for curve in curves for step in curve["steps"]), default=0)
    traces += target_traces(result, end, higher, linear)
    return {
        "data": traces,
        "layout": layout(
            440,
            xaxis=axis("steps", range=[0, end * 1.01 or 1]),
            yaxis=axis(task["metric"], range=linear, type="linear"),
        ),
        "ranges": {"linear": linear, "log": logarithmic},
    }


def contender_traces(
    curves: list[Curve], group: str, position: int, name: str, higher: bool, view: list[float]
) -> list[Trace]:
    """Return the thin lines, the band, the medians and the marks of diverged runs of one contender."""
    common = {"type": "scatter", "legendgroup": group, "mode": "lines"}
    x: list[float | None] = []
    y: list[float | None] = []
    for curve in curves:
        x += [*curve["steps"], None]
        y += [*curve["values"], None]
    traces: list[Trace] = []
    if any(known(curve) for curve in curves):
        thin = {"color": colour(position, 0.28), "width": 1}
        traces.append({**common, "x": x, "y": y, "line": thin, "hoverinfo": "skip", "meta": "seeds"})
    for family in horizons(curves):
        traces += [{**common, **trace} for trace in middle(family, position, name, higher)]
    fallen = [curve for curve in curves if curve.get("diverged_at") is not None]
    if fallen:
        places = [lost(curve, higher, view) for curve in fallen]
        marks = {
            "mode": "markers",
            "x": [step for step, _ in places],
            "y": [value for _, value in places],
            "marker": {"symbol": "x", "size": 10, "color": colour(position), "line": {"color": "@page", "width": 1}},
            "hoverinfo": "text",
            "hovertext": [
                f"{escape(name)}<br>seed {curve['seed']} diverged at step {curve['diverged_at']}" for curve in fallen
            ],
            "meta": "diverged",
        }
        traces.append({**common, **marks})
    return traces


def lost(curve: Curve, higher: bool, view: list[float]) -> tuple[float, float]:
    """Return where a diverged run is marked: at its last value, or where it leaves the visible range."""
    border = view[0] + (0.03 if higher else 0.97) * (view[1] - view[0])
    points = known(curve)
    for step, value in points:
        if value < border if higher else value > border:
            return step, border
    return points[-1] if points else (curve["diverged_at"], border)


def known(curve: Curve) -> list[tuple[float, float]]:
    """Return the points (step, value) of a curve that hold a number."""
    return [(step, value) for step, value in zip(curve["steps"], curve["values"], strict=False) if value is not None]


def horizons(curves: list[Curve]) -> list[list[Curve]]:
    """Return the curves in families that were evaluated at the same steps: in a budgeted race one per horizon.

    The first step after 0 tells the families apart, as evaluations are evenly spaced and a diverged run ends early.
    """
    families: dict[float, list[Curve]] = defaultdict(list)
    orphans: list[Curve] = []
    for curve in curves:
        spacing = next((step for step in curve["steps"] if step > 0), None)
        if spacing is not None:
            families[spacing].append(curve)
        else:
            orphans.append(curve)
    if len(families) == 1:  # with several horizons, nothing tells which one a run without evaluations belongs to
        next(iter(families.values())).extend(orphans)
    return list(families.values())


def middle(curves: list[Curve], position: int, name: str, higher: bool) -> list[Trace]:
    """Return the median of `curves` and the band between the quartiles; a diverged run counts as the worst."""
    worst = -math.inf if higher else math.inf
    tables = [dict(known(curve)) for curve in curves]
    steps = sorted({step for table in tables for step in table})
    low, centre, high = [], [], []
    for step in steps:
        values = sorted(table.get(step, worst) for table in tables)
        low.append(quantile(values, 0.25))
        centre.append(quantile(values, 0.5))
        high.append(quantile(values, 0.75))
    inside = [
        k for k, (bottom, top) in enumerate(zip(low, high, strict=True)) if bottom is not None and top is not None
    ]
    outline: Trace = {
        "x": [steps[k] for k in inside] + [steps[k] for k in reversed(inside)],
        "y": [low[k] for k in inside] + [high[k] for k in reversed(inside)],
        "fill": "toself",
        "fillcolor": colour(position, 0.16),
        "line": {"width": 0, "color": "@clear"},
        "hoverinfo": "skip",
        "meta": "band",
    }
    notes = [
        f"{escape(name)}<br>step {count(int(step))}: median {number(value, 4)} ({number(a, 4)} to {number(b, 4)})"
        for step, a, value, b in zip(steps, low, centre, high, strict=True)
    ]
    line = {
        "x": steps,
        "y": centre,
        "line": {"color": colour(position), "width": 2.5, "dash": dash(position)},
        "hoverinfo": "text",
        "hovertext": notes,
        "meta": "median",
    }
    return ([outline] if len(inside) > 1 else []) + [line]


def quantile(values: list[float], level: float) -> float | None:
    """Return a quantile of sorted `values` by linear interpolation; None where it is infinite."""
    place = level * (len(values) - 1)
    below, above = values[math.floor(place)], values[math.ceil(place)]
    between = below if below == above else below + (above - below) * (place - math.floor(place))
    return between if math.isfinite(between) else None


def target_traces(result: words.Result, end: float, higher: bool, view: list[float]) -> list[Trace]:
    """Return a dashed horizontal line per target, with names where curves rarely pass and not upon each other."""
    good, bad = ("top", "bottom") if higher else ("bottom", "top")
    loose, centre = ((result["targets"] or {}).get(name) for name in ("loose", "middle"))
    near = loose is not None and centre is not None and abs(loose - centre) < 0.07 * (view[1] - view[0])
    lines = []
    for name, share, side in (("loose", 0.0, bad), ("middle", 0.24 if near else 0.0, bad), ("tight", 0.0, good)):
        value = (result["targets"] or {}).get(name)
        if value is not None:
            lines.append(
                {
                    "type": "scatter",
                    "mode": "lines+text",
                    "x": [0, share * end, end],
                    "y": [value] * 3,
                    "text": ["", f"{name} {number(float(value), 4)}", ""],
                    "textposition": f"{side} right",
                    "textfont": {"color": "@quiet", "size": 12},
                    "line": {"color": "@quiet", "width": 1, "dash": "dash"},
                    "hoverinfo": "skip",
                    "meta": "target",
                }
            )
    return lines


def ranges(result: words.Result, curves: list[Curve], higher: bool) -> tuple[list[float], list[float] | None]:
    """Return the linear range and the logarithmic one (None unless all values are positive).

    A diverging run may end at a million; the axis stops where the worst run began, so that the others can be seen.
    """
    points = [[value for _, value in known(curve)] for curve in curves]
    points = [values for values in points if values]
    goals = [float(value) for value in (result["targets"] or {}).values() if value is not None]
    starts = [values[0] for values in points] + goals
    best = max if higher else min
    ends = [best(values) for values in points] + goals
    low, high = min(starts + ends), max(starts + ends)
    pad = 0.04 * (high - low) or abs(high) * 0.05 or 1.0
    everything = [value for values in points for value in values] + goals
    logarithmic = None
    if min(everything) > 0:
        room = 0.04 * math.log10(high / low) or 0.02
        logarithmic = [math.log10(low) - room, math.log10(high) + room]
    return [low - pad, high + pad], logarithmic
