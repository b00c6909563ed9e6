"""One dot per racing seed: the paired steps ratio to the deciding target, and the final metric."""

import math
from typing import Any

from sooner.report import words
from sooner.report.figures.base import Figure, RatioAxis, Rows, Trace, axis, colour, escape, symbol
from sooner.report.figures.ratios import WORD, line_at_one
from sooner.report.numbers import count, number, plus_minus, times

Pair = tuple[int | None, float | None, float | None]


def paired_steps(result: words.Result) -> Figure | None:
    """Return each seed's steps divided by the baseline's with that seed; None where there are no pairs."""
    baseline = next((each for each in result["contenders"] if each.get("baseline")), None)
    if baseline is None:
        return None
    old = words.primary(baseline, result).get("steps") or []
    seeds = result["seeds"].get("racing") or []
    pairs: dict[int, list[Pair]] = {}
    for position, contender in words.ordered(result):
        new = words.primary(contender, result).get("steps") or []
        made = [
            (seeds[k] if k < len(seeds) else None, mine, his)
            for k, (mine, his) in enumerate(zip(new, old, strict=False))
        ]
        if not contender.get("baseline") and any(mine is not None or his is not None for _, mine, his in made):
            pairs[position] = made
    if not pairs:
        return None
    chosen = list(pairs)
    rows = Rows(result, chosen)
    scale = RatioAxis([quotient(pair) for made in pairs.values() for pair in made if arrived(pair)])
    traces: list[Trace] = []
    for place, position in enumerate(chosen):
        shown = [pair for pair in pairs[position] if arrived(pair)]
        dots = [(k, pair) for k, pair in enumerate(shown) if not scale.off(quotient(pair))]
        name = escape(rows.names[position])
        if dots:
            notes = [f"{name}<br>{told(pair)}" for _, pair in dots]
            traces.append(dot_row([(k, quotient(pair)) for k, pair in dots], rows.y(place), position, notes))
        for side in ("left", "right"):
            beyond = [pair for pair in shown if scale.off(quotient(pair)) == side]
            if beyond:
                traces.append(arrow(beyond, side, scale, rows.y(place), position, name))
        overall = words.primary(result["contenders"][position], result).get("ratio")
        if overall is not None and not scale.off(overall):
            kind = "median" if any(None in pair[1:] for pair in pairs[position]) else "geometric mean"
            traces.append(mean_line(overall, rows.y(place), position, f"{kind} {times(overall)}"))
    axis_of_ratios = scale.axis("steps relative to the baseline, seed by seed")
    return {"data": traces, "layout": rows.layout(axis_of_ratios, shapes=[line_at_one()])}


def arrived(pair: Pair) -> bool:
    """Say whether at least one side of a pair reached the target; if neither did there is no ratio."""
    return pair[1] is not None or pair[2] is not None


def quotient(pair: Pair) -> float | None:
    """Return the ratio of a pair: None (infinite) where the contender missed, 0 where the baseline did."""
    _, mine, his = pair
    if mine is None:
        return None
    return mine / his if his else 0.0


def told(pair: Pair) -> str:
    """Return one pair in words."""
    seed, mine, his = pair
    own = "never" if mine is None else f"{count(round(mine))} steps"
    other = "never" if his is None else f"{count(round(his))} steps"
    value = quotient(pair)
    ending = f" ({times(value)})" if value else ""
    return f"seed {seed}: {own}, baseline {other}{ending}"


def dot_row(points: list[tuple[int, float | None]], y: float, position: int, notes: list[str]) -> Trace:
    """Return dots at the given values, in three thin rows by their number so that equal values stay apart."""
    return {
        "type": "scatter",
        "mode": "markers",
        "legendgroup": str(position),
        "x": [value for _, value in points],
        "y": [y + 0.22 * (k % 3 - 1) for k, _ in points],
        "marker": {
            "color": colour(position, 0.8),
            "size": 10,
            "symbol": symbol(position),
            "line": {"color": "@page", "width": 0.7},
        },
        "hoverinfo": "text",
        "hovertext": notes,
    }


def arrow(beyond: list[Pair], side: str, scale: RatioAxis, y: float, position: int, name: str) -> Trace:
    """Return one arrow for all seeds off one end of the axis, with their number in words."""
    mine = sum(1 for _, own, _ in beyond if own is None)
    his = sum(1 for _, _, other in beyond if other is None)
    text = f"{mine} never" if mine else f"baseline: {his} never" if his else f"{len(beyond)} more"
    return {
        "type": "scatter",
        "mode": "markers+text",
        "legendgroup": str(position),
        "x": [scale.place(quotient(beyond[0]))],
        "y": [y],
        "marker": {"color": colour(position), "size": 11, "symbol": f"triangle-{side}"},
        "text": [text],
        "textposition": "middle right",
        "cliponaxis": False,
        "textfont": WORD,
        "hoverinfo": "text",
        "hovertext": "<br>".join([name, *(told(pair) for pair in beyond)]),
    }


def final_metric(result: words.Result) -> Figure | None:
    """Return the final metric of every seed at equal budget; None where none was recorded."""
    chosen = [
        position
        for position, contender in words.ordered(result)
        if any(value is not None for value in (contender.get("final") or {}).get("values") or [])
    ]
    if not chosen:
        return None
    rows = Rows(result, chosen)
    seeds = result["seeds"].get("racing") or []
    traces: list[Trace] = []
    shapes: list[dict[str, Any]] = []
    shown: list[float] = []
    for place, position in enumerate(chosen):
        contender = result["contenders"][position]
        final = contender["final"]
        points = [(k, value) for k, value in enumerate(final["values"]) if value is not None]
        shown += [value for _, value in points]
        name = escape(rows.names[position])
        notes = [f"{name}<br>seed {seeds[k] if k < len(seeds) else k}: {number(value, 4)}" for k, value in points]
        traces.append(dot_row(points, rows.y(place), position, notes))
        mean = final.get("mean")
        if mean is not None:
            note = f"mean {plus_minus(mean, final.get('sd'))}"
            traces.append(mean_line(mean, rows.y(place), position, note))
            if contender.get("baseline"):
                shapes.append({**line_at_one(), "x0": mean, "x1": mean})
    middle = sorted(shown)[len(shown) // 2]
    spread = 8 * max(quartile_distance(shown), abs(middle) * 1e-3)
    low, high = max(min(shown), middle - spread), min(max(shown), middle + spread)
    pad = 0.06 * (high - low) or abs(middle) * 0.05 or 1.0
    metric = f"final {result['task']['metric']} at equal budget"
    horizontal = axis(metric, range=[low - pad, high + pad], nticks=7)
    return {"data": traces, "layout": rows.layout(horizontal, shapes=shapes)}


def quartile_distance(values: list[float]) -> float:
    """Return the distance between the quartiles: a diverged seed must not stretch the axis."""
    ranked = sorted(values)
    distance = ranked[(3 * len(ranked)) // 4 if len(ranked) > 1 else 0] - ranked[len(ranked) // 4]
    return distance if math.isfinite(distance) else 0.0


def mean_line(value: float, y: float, position: int, note: str) -> Trace:
    """Return a short upright line at a mean."""
    return {
        "type": "scatter",
        "mode": "lines",
        "legendgroup": str(position),
        "x": [value, value],
        "y": [y - 0.48, y + 0.48],
        "line": {"color": colour(position), "width": 3},
        "hoverinfo": "text",
        "hovertext": note,
    }
