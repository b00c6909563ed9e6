"""What tuning saw: the score against the learning rate, and the best score to expect from fewer trials."""

import math
from typing import Any

from sooner.report import words
from sooner.report.figures.base import Figure, Trace, axis, colour, dash, escape, labels, layout, symbol
from sooner.report.numbers import number, plain, settings

Trial = dict[str, Any]


def sensitivity(result: words.Result) -> Figure | None:
    """Return the score of every tuning trial against the learning rate (or the first logarithmic setting)."""
    higher = bool(result["task"].get("higher_is_better"))
    names = labels(result)
    studies: dict[int, list[tuple[float, Trial]]] = {}
    knobs: list[str] = []
    for position, contender in words.ordered(result):
        tuning = contender.get("tuning") or {}
        knob = main_knob(tuning)
        if knob is None:
            continue
        places = ((place(trial, tuning, knob), trial) for trial in tuning.get("trials") or [])
        placed = sorted([(x, trial) for x, trial in places if x is not None], key=lambda item: item[0])
        if placed:
            studies[position] = placed
            knobs += [knob] if knob not in knobs else []
    if not studies:
        return None
    scores = [trial["score"] for trials in studies.values() for _, trial in trials if trial.get("score") is not None]
    low, high = view(scores, higher)
    edge = low if higher else high  # the bad side, where diverged trials are drawn
    traces: list[Trace] = []
    for position, trials in studies.items():
        tuning = result["contenders"][position]["tuning"]
        traces += study(trials, tuning, position, names[position], edge, higher)
    pad = 0.1 * (high - low)
    fell = any(outside(trial, edge, higher) for trials in studies.values() for _, trial in trials)
    title = " or ".join("learning rate (lr)" if knob == "lr" else knob for knob in knobs)
    score = f"score of the trial ({plain(result['task']['metric'])})"
    notes = [edge_note("diverged, or far off", edge, higher)] if fell else []
    horizontal = axis(title, **decades([x for trials in studies.values() for x, _ in trials]))
    vertical = axis(score, range=[low - pad, high + pad])
    return {"data": traces, "layout": layout(400, xaxis=horizontal, yaxis=vertical, annotations=notes)}


def main_knob(tuning: dict[str, Any]) -> str | None:
    """Return the setting to plot against: the learning rate, else the first with a logarithmic space, else None."""
    knobs = tuning.get("knobs") or {}
    if "lr" in knobs:
        return "lr"
    return next((name for name, knob in knobs.items() if (knob or {}).get("kind") == "log"), None)


def place(trial: Trial, tuning: dict[str, Any], knob: str) -> float | None:
    """Return the setting of a trial, the default where it names none; None where it cannot be drawn."""
    value = (trial.get("settings") or {}).get(knob, (tuning.get("default") or {}).get(knob))
    return float(value) if isinstance(value, int | float) and value > 0 else None


def view(scores: list[float], higher: bool) -> tuple[float, float]:
    """Return the range of scores worth seeing: a trial that nearly diverged must not flatten the rest."""
    if not scores:
        return 0.0, 1.0
    ranked = sorted(scores, reverse=higher)
    best, middle = ranked[0], ranked[len(ranked) // 2]
    reach = 8 * abs(middle - best) or abs(best) * 0.1 or 1.0
    worst = max(ranked[-1], best - reach) if higher else min(ranked[-1], best + reach)
    if worst == best:
        worst = best - reach / 2 if higher else best + reach / 2
    worst += 0.14 * (worst - best)
    return min(best, worst), max(best, worst)


def outside(trial: Trial, edge: float, higher: bool) -> bool:
    """Say whether a trial is drawn on the bad edge: it diverged, or its score lies beyond."""
    score = trial.get("score")
    return score is None or (score < edge if higher else score > edge)


def decades(values: list[float]) -> dict[str, Any]:
    """Return a logarithmic axis around `values`, with ticks at 1, 2, 5 or, over many decades, at powers of ten."""
    low, high = math.log10(min(values)), math.log10(max(values))
    room = 0.07 * (high - low) or 0.5
    low, high = low - room, high + room
    leads = (1, 2, 5) if high - low < 2 else (1, 3) if high - low < 3 else (1,)
    powers = range(math.floor(low), math.ceil(high) + 1)
    ticks = [lead * 10.0**power for power in powers for lead in leads]
    return {"type": "log", "range": [low, high], "tickvals": ticks, "ticktext": [number(tick, 2) for tick in ticks]}


def study(
    trials: list[tuple[float, Trial]], tuning: dict[str, Any], position: int, name: str, edge: float, higher: bool
) -> list[Trace]:
    """Return one contender's trials: a line through the finished ones, and marks for all of them."""
    common = {"type": "scatter", "legendgroup": str(position)}
    paint = colour(position)
    finished = [(x, trial["score"]) for x, trial in trials if trial.get("score") is not None]
    traces: list[Trace] = []
    if len(finished) > 1:
        line = {"color": paint, "width": 1.5, "dash": dash(position)}
        x, y = [x for x, _ in finished], [score for _, score in finished]
        traces.append({**common, "mode": "lines", "x": x, "y": y, "line": line, "hoverinfo": "skip"})
    height = [edge if outside(trial, edge, higher) else trial["score"] for _, trial in trials]
    at_edge = main_knob(tuning) in (tuning.get("edge") or [])
    best = [trial.get("settings") == tuning.get("best") and trial.get("score") is not None for _, trial in trials]
    default = [trial.get("settings") == tuning.get("default") for _, trial in trials]
    marker = {
        "color": paint,
        "symbol": [
            "star" if top else "x" if trial.get("score") is None else symbol(position)
            for top, (_, trial) in zip(best, trials, strict=True)
        ],
        "size": [15 if top else 8 for top in best],
        "line": {"color": "@page", "width": 0.7},
    }
    points = {
        "mode": "markers+text",
        "x": [x for x, _ in trials],
        "y": height,
        "marker": marker,
        "text": ["edge" if top and at_edge else "" for top in best],
        "textposition": "top center" if position % 2 else "bottom center",
        "textfont": {"color": "@ink", "size": 12},
        "hoverinfo": "text",
        "hovertext": [
            note(trial, name, [*(["best"] if top else []), *(["default"] if first else [])])
            for (_, trial), top, first in zip(trials, best, default, strict=True)
        ],
    }
    square = {
        "mode": "markers",
        "x": [x for (x, _), first in zip(trials, default, strict=True) if first],
        "y": [y for y, first in zip(height, default, strict=True) if first],
        "marker": {"color": paint, "symbol": "square-open", "size": 17, "line": {"color": paint, "width": 1.5}},
        "hoverinfo": "skip",
    }
    return [*traces, {**common, **square}, {**common, **points}]


def note(trial: Trial, name: str, kinds: list[str]) -> str:
    """Return what to say about one trial."""
    score, when = trial.get("score"), trial.get("diverged_at")
    told = f"score {number(score, 4)}" if score is not None else "diverged"
    told += f" at step {when}" if score is None and when is not None else ""
    told += f" ({', '.join(kinds)})" if kinds else ""
    return f"{escape(name)}<br>{escape(settings(trial.get('settings')))}<br>{told}"


def edge_note(text: str, y: float, higher: bool) -> dict[str, Any]:
    """Return a word at the left end of the line where diverged trials are drawn."""
    return {
        "x": 0,
        "xref": "paper",
        "xanchor": "left",
        "y": y,
        "yanchor": "top" if higher else "bottom",
        "yshift": -6 if higher else 6,
        "text": text,
        "showarrow": False,
        "font": {"color": "@quiet", "size": 12},
    }


def expected_best(result: words.Result) -> Figure | None:
    """Return the best score to expect from 1, 2, .. trials; None where tuning had a single trial."""
    names = labels(result)
    traces: list[Trace] = []
    for position, contender in words.ordered(result):
        values = (contender.get("tuning") or {}).get("expected_best") or []
        if len(values) < 2 or all(value is None for value in values):
            continue
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "legendgroup": str(position),
                "x": list(range(1, len(values) + 1)),
                "y": values,
                "line": {"color": colour(position), "width": 2, "dash": dash(position)},
                "marker": {"color": colour(position), "size": 8, "symbol": symbol(position)},
                "hoverinfo": "text",
                "hovertext": [
                    f"{escape(names[position])}<br>best of {k}: {number(value, 4)}" for k, value in enumerate(values, 1)
                ],
            }
        )
    if not traces:
        return None
    longest = max(len(trace["x"]) for trace in traces)
    horizontal = axis("tuning trials", range=[0.8, longest + 0.2], dtick=max(1, longest // 8))
    vertical = axis(f"expected best ({plain(result['task']['metric'])})")
    return {"data": traces, "layout": layout(340, xaxis=horizontal, yaxis=vertical)}
