"""An answer as one HTML file that needs no network: text, tables, plots, and the figures as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sooner.report.figures.base import Figure, Trace, axis, colour, dash, escape, layout
from sooner.report.forecast.answer import Answer, Line, Plot, shown
from sooner.report.html import embed, finite, render, store
from sooner.version import __version__

_MOST = 2000
"""Points drawn of one line; the eye sees no more, and the page stays small."""


def write(answer: Answer, path: Path) -> Path:
    """Write the report and return its path; missing folders are made, an old report is replaced whole.

    Raises:
        SoonerError: where the file cannot be written.
    """
    return store(page(answer), Path(path))


def page(answer: Answer) -> str:
    """Return the answer as HTML."""
    return render(
        "forecast.html.j2",
        answer=answer,
        shown=shown,
        version=__version__,
        heights={f"forecast-{k}": 420 for k in range(len(answer.plots))},
        figures=embed(finite({f"forecast-{k}": figure(plot) for k, plot in enumerate(answer.plots)})),
        data=embed(finite(answer.json())),
    )


def figure(plot: Plot) -> Figure:
    """Return the Plotly figure of a plot."""
    traces: list[Trace] = []
    for position, line in enumerate(plot.lines):
        traces += _traces(line, position)
    return {
        "data": traces,
        "layout": layout(
            420,
            xaxis=axis(plot.x, type="log" if plot.log_x else "linear"),
            yaxis=axis(plot.y, exponentformat="power"),
            showlegend=True,
            legend={"orientation": "h", "y": -0.16, "yanchor": "top", "x": 0},
            margin={"l": 56, "r": 12, "t": 12, "b": 100},
        ),
    }


def _traces(line: Line, position: int) -> list[Trace]:
    stride = max(1, len(line.x) // _MOST)
    x, y = line.x[::stride].tolist(), line.y[::stride].tolist()
    common: dict[str, Any] = {"type": "scatter", "name": escape(line.name), "legendgroup": str(position)}
    if line.dots:
        return [{**common, "x": x, "y": y, "mode": "markers", "marker": {"color": colour(position), "size": 5}}]
    drawn: list[Trace] = []
    if line.low is not None and line.high is not None:
        low, high = line.low[::stride].tolist(), line.high[::stride].tolist()
        outline = {"x": [*x, *reversed(x)], "y": [*high, *reversed(low)], "fill": "toself"}
        look = {"fillcolor": colour(position, 0.16), "line": {"width": 0, "color": "@clear"}}
        drawn.append({**common, **outline, **look, "mode": "lines", "hoverinfo": "skip", "showlegend": False})
    stroke = {"color": colour(position), "width": 2.5, "dash": dash(position)}
    return [*drawn, {**common, "x": x, "y": y, "mode": "lines", "line": stroke}]
