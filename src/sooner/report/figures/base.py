"""What all plots share: colour tokens, symbols, safe labels, axes and the layout."""

import math
from collections.abc import Iterable
from typing import Any

from sooner.report.numbers import plain, ratio
from sooner.report.words import Result

Figure = dict[str, Any]
Trace = dict[str, Any]

COLOURS = 10
SYMBOLS = (
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "pentagon",
    "triangle-down",
    "hexagon2",
    "cross",
    "hourglass",
    "star-diamond",
)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def colour(position: int, opacity: float | None = None) -> str:
    """Return the colour token of the contender at `position`; the baseline comes first and is neutral."""
    return f"@c{position % COLOURS}" if opacity is None else f"@c{position % COLOURS}/{opacity}"


def symbol(position: int) -> str:
    """Return the marker of the contender at `position`, so that colour is not the only difference."""
    return SYMBOLS[position % len(SYMBOLS)]


def dash(position: int) -> str:
    """Return the line style of the contender at `position`."""
    return DASHES[position % len(DASHES)]


def escape(text: object) -> str:
    """Return `text` such that Plotly, which reads a little HTML in every label, shows it letter by letter."""
    return plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def shorten(text: str, limit: int = 32) -> str:
    """Return `text` with its middle left out where it is longer than `limit`: both ends tell recipes apart."""
    if len(text) <= limit:
        return text
    tail = limit // 3
    return f"{text[: limit - tail - 1].rstrip()}…{text[-tail:].lstrip()}"


def labels(result: Result) -> list[str]:
    """Return a short, distinct label for each contender, not yet escaped."""
    made: list[str] = []
    for contender in result["contenders"]:
        label = shorten(plain(contender["recipe"]))
        same = sum(1 for other in made if other.split(" #")[0] == label)
        made.append(f"{label} #{same + 1}" if same else label)
    return made


def layout(height: int, **more: Any) -> dict[str, Any]:
    """Return a layout: transparent, sized by the page, with a hover box in the page's colours."""
    return {
        "height": height,
        "autosize": True,
        "showlegend": False,
        "hovermode": "closest",
        "paper_bgcolor": "@clear",
        "plot_bgcolor": "@clear",
        "font": {"color": "@ink", "size": 13, "family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"},
        "hoverlabel": {
            "bgcolor": "@page",
            "bordercolor": "@rule",
            "font": {"color": "@ink", "size": 13},
            "align": "left",
        },
        "margin": {"l": 56, "r": 12, "t": 12, "b": 48},
        "uirevision": "kept",
        **more,
    }


def axis(title: str | None = None, **more: Any) -> dict[str, Any]:
    """Return an axis with quiet grid lines."""
    return {
        **({"title": {"text": escape(title), "standoff": 8, "font": {"size": 13}}} if title else {}),
        "gridcolor": "@grid",
        "linecolor": "@rule",
        "tickcolor": "@rule",
        "zeroline": False,
        "automargin": True,
        **more,
    }


class RatioAxis:
    """A logarithmic axis around 1, with room at either end for ratios that are infinite or zero.

    Args:
        values: ratios and ends of intervals; None stands for infinity, 0 for a baseline that never arrived.
    """

    TICKS = (
        0.05,
        0.1,
        0.2,
        0.3,
        0.4,
        0.5,
        0.6,
        0.7,
        0.8,
        0.9,
        1.0,
        1.1,
        1.2,
        1.3,
        1.5,
        1.75,
        2,
        2.5,
        3,
        4,
        5,
        7,
        10,
        20,
    )
    WIDEST = 32.0
    # Room for an arrow and a word beyond either end, as a share of the axis, wide enough for a phone.
    ROOM = 0.3

    def __init__(self, values: Iterable[float | None]):
        known = list(values)
        finite = [min(max(value, 1 / self.WIDEST), self.WIDEST) for value in known if value is not None and value > 0]
        low, high = min([0.87, *finite]), max([1.15, *finite])
        width = math.log(high / low)
        self.low, self.high = low * math.exp(-0.06 * width), high * math.exp(0.06 * width)
        self.left, self.right = self.low, self.high
        if any(value is not None and (value <= 0 or value < self.low) for value in known):
            self.left = self.low * math.exp(-self.ROOM * width)
        if any(value is None or value > self.high for value in known):
            self.right = self.high * math.exp(self.ROOM * width)

    def place(self, value: float | None) -> float:
        """Return where `value` is drawn: itself, or a little way into the room at the end it falls off."""
        if value is None or value > self.high:
            return self.high * math.pow(self.right / self.high, 0.2)
        return self.low * math.pow(self.left / self.low, 0.2) if value < self.low else value

    def off(self, value: float | None) -> str:
        """Return "right" or "left" for a value that falls off that end of the axis, else ""."""
        if value is None or value > self.high:
            return "right"
        return "left" if value < self.low else ""

    def axis(self, title: str) -> dict[str, Any]:
        """Return the Plotly axis."""
        gap = math.log(self.right / self.left) / 7
        ticks = [1.0]
        for tick in sorted(self.TICKS, key=lambda tick: abs(math.log(tick))):
            if self.low <= tick <= self.high and all(abs(math.log(tick / other)) >= gap for other in ticks):
                ticks.append(tick)
        ticks.sort()
        return axis(
            title,
            type="log",
            range=[math.log10(self.left), math.log10(self.right)],
            tickvals=ticks,
            ticktext=[ratio(tick).rstrip("0").rstrip(".") + "x" for tick in ticks],
        )


class Rows:
    """Contenders under each other, each with its name on a line above its own rows.

    Args:
        result: the result; its contenders appear in the order of the table.
        chosen: positions of the contenders to show.
        entries: labels of the rows of every contender.
    """

    PIXELS = 23

    def __init__(self, result: Result, chosen: list[int], entries: tuple[str, ...] = ("",)):
        self.entries = entries
        self.names = labels(result)
        self.chosen = chosen
        self.height = len(entries) + 1.35

    def y(self, place: int, entry: int = 0) -> float:
        """Return the height of a row: entry number `entry` of the contender shown at `place`."""
        return -place * self.height - 1 - entry

    @property
    def bottom(self) -> float:
        """The lower end of the axis."""
        return -len(self.chosen) * self.height + 0.65

    def layout(self, ratios: dict[str, Any], top: int = 12, **more: Any) -> dict[str, Any]:
        """Return the layout around these rows, given the horizontal axis."""
        labelled = any(self.entries)
        names = [
            {
                "x": 0,
                "xref": "paper",
                "xanchor": "left",
                "xshift": -52 if labelled else -8,
                "y": -place * self.height,
                "yanchor": "middle",
                "text": f"<b>{escape(self.names[position])}</b>",
                "showarrow": False,
                "font": {"color": colour(position), "size": 13},
            }
            for place, position in enumerate(self.chosen)
        ]
        places = [(place, entry) for place in range(len(self.chosen)) for entry in range(len(self.entries))]
        pixels = round((0.7 - self.bottom) * self.PIXELS) + top + 52
        return layout(
            pixels,
            xaxis=ratios,
            yaxis=axis(
                range=[self.bottom, 0.7],
                fixedrange=True,
                showgrid=False,
                showline=False,
                ticks="",
                tickvals=[self.y(*place) for place in places] if labelled else [],
                ticktext=[escape(self.entries[entry]) for _, entry in places] if labelled else [],
            ),
            margin={"l": 56 if labelled else 12, "r": 12, "t": top, "b": 52},
            annotations=[*names, *more.pop("annotations", [])],
            **more,
        )
