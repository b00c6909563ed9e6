"""An answer on a terminal."""

from __future__ import annotations

import re

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sooner.report.forecast.answer import Answer, Grid, shown

_NUMBER = re.compile(r"[-+]?[\d.]|\[[-+\d.]|-$")
"""How a number, a band or a dash begins."""
_LEAST = 8
"""Columns of words are folded to no less."""


def show(answer: Answer, console: Console) -> None:
    """Print headline, tables, doubts and notes; sentences are broken for a terminal, and never for a file or pipe."""
    whole = not console.is_terminal
    for doubt in answer.doubts:
        console.print(Text(f"warning: {doubt}", style="yellow"), soft_wrap=whole)
    console.print(Text(answer.headline, style="bold"), soft_wrap=whole)
    for grid in answer.grids:
        console.print()
        console.print(Text(grid.title), soft_wrap=whole)
        console.print(_table(grid, console.width))
    if answer.warnings or answer.notes:
        console.print()
    for warning in answer.warnings[len(answer.doubts) :]:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=whole)
    for note in answer.notes:
        console.print(Text(f"note: {note}"), soft_wrap=whole)


def _table(grid: Grid, width: int) -> Table:
    """Return the table: numbers never break, headings and names do where it would not fit otherwise."""
    cells = [[shown(cell) for cell in row] for row in grid.rows]
    widths, close = _widths(list(grid.columns), cells, width)
    table = Table(box=None, pad_edge=False, collapse_padding=close)
    for k, heading in enumerate(grid.columns):
        right = all(not isinstance(row[k], str) for row in grid.rows)
        table.add_column(heading, justify="right" if right else "left", overflow="fold", width=widths[k])
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _widths(heads: list[str], cells: list[list[str]], width: int) -> tuple[list[int], bool]:
    """Return the widths of the columns, and whether one blank, not two, is between them.

    Headings are broken first, at their blanks; then the blanks between columns go; then columns of words are folded.
    """
    longest = [max((cell_len(row[k]) for row in cells), default=0) for k in range(len(heads))]
    whole = [max(one, cell_len(head)) for one, head in zip(longest, heads, strict=True)]
    if sum(whole) + 2 * len(whole) - 2 <= width:
        return whole, False
    broken = [
        max(one, *(cell_len(word) for word in head.split() or [""])) for one, head in zip(longest, heads, strict=True)
    ]
    spare = width - sum(broken) - 2 * len(broken) + 2
    close = spare < 0
    spare += (len(broken) - 1) * close
    for k, one in enumerate(whole):  # headings that fit in one line after all
        if 0 < one - broken[k] <= spare:
            spare -= one - broken[k]
            broken[k] = one
    for k in sorted(range(len(heads)), key=lambda one: -broken[one]):
        if spare < 0 and not all(_NUMBER.match(row[k]) for row in cells):
            less = min(-spare, max(broken[k] - _LEAST, 0))
            broken[k] -= less
            spare += less
    return broken, close
