"""An answer on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sooner.report.forecast.answer import Answer, Grid, shown


def show(answer: Answer, console: Console) -> None:
    """Print headline, tables, doubts and notes."""
    console.print(Text(answer.headline, style="bold"), soft_wrap=True)
    for grid in answer.grids:
        console.print()
        console.print(Text(grid.title), soft_wrap=True)
        console.print(_table(grid))
    if answer.warnings or answer.notes:
        console.print()
    for warning in answer.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)
    for note in answer.notes:
        console.print(Text(f"note: {note}"), soft_wrap=True)


def _table(grid: Grid) -> Table:
    table = Table(box=None, pad_edge=False)
    for place, heading in enumerate(grid.columns):
        numeric = all(not isinstance(row[place], str) for row in grid.rows)
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for row in grid.rows:
        table.add_row(*(Text(shown(cell)) for cell in row))
    return table
