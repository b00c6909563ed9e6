"""An answer of `sooner forecast`: a headline, tables, plots and doubts, before it is known where they will be shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sooner.forecast.table import Doubt, FloatArray

Cell = str | float | int | None


@dataclass(frozen=True)
class Grid:
    """A small table.

    Args:
        title: one line.
        columns: headings.
        rows: cells; numbers are shown with four significant digits, None as a dash.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Line:
    """One line of a plot, with its band.

    Args:
        name: in the legend.
        x: (n,).
        y: (n,).
        low: (n,) lower end of the band, None without one.
        high: (n,) upper end.
        dots: measured points, which are not joined.
    """

    name: str
    x: FloatArray
    y: FloatArray
    low: FloatArray | None = None
    high: FloatArray | None = None
    dots: bool = False


@dataclass(frozen=True)
class Plot:
    """A plot.

    Args:
        title: one line.
        x: title of the horizontal axis.
        y: title of the vertical axis.
        lines: at least one.
        log_x: whether the horizontal axis is logarithmic.
    """

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    log_x: bool = False


@dataclass(frozen=True)
class Answer:
    """What a command found.

    Args:
        question: what was asked, one line.
        headline: the answer, one sentence.
        grids: tables, in order.
        plots: plots, in order.
        warnings: why to doubt it.
        notes: what was read and assumed.
        data: the figures in full, for JSON.

    What makes the answer one to another question, such as a run that diverged, is in `doubts`, and said before it.
    """

    question: str
    headline: str
    grids: Sequence[Grid] = ()
    plots: Sequence[Plot] = ()
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    doubts: Sequence[str] = field(init=False, default=())

    def __post_init__(self) -> None:
        """Put doubts about the rows themselves in front of all others."""
        doubts = [note for note in self.notes if isinstance(note, Doubt)]
        object.__setattr__(self, "doubts", doubts)
        object.__setattr__(self, "notes", [note for note in self.notes if not isinstance(note, Doubt)])
        object.__setattr__(self, "warnings", list(dict.fromkeys((*doubts, *self.warnings))))

    def json(self) -> dict[str, Any]:
        """Return the answer as JSON holds it, without the plots."""
        return {
            "question": self.question,
            "answer": self.headline,
            **self.data,
            "warnings": list(self.warnings),
            "notes": list(self.notes),
        }


def shown(cell: Cell) -> str:
    """Return a cell as text: numbers with four significant digits."""
    if cell is None:
        return "-"
    return tidy(cell) if isinstance(cell, float) else str(cell)


def tidy(value: float, digits: int = 4) -> str:
    """Return a number with so many significant digits, without an exponent up to a million; a dash for NaN."""
    if value != value:
        return "-"
    text = f"{value:.{digits}g}"
    return f"{float(text):,.0f}" if "e+" in text and abs(value) < 1e6 else text
