"""`sooner league`: the league table, who is in it, and how far to trust it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from sooner.error import SoonerError
from sooner.league import LEVEL, League, Row, collect, table

_SHOWN = 6
_ANY = 10_000
"""A width in columns into which every table fits."""


def show_league(folders: list[Path], *, published: bool, as_json: bool) -> None:
    """Print the league of the races below the folders and of the published evidence.

    Raises:
        SoonerError: a folder does not exist, or there is nothing to compare.
    """
    for folder in folders:
        if not folder.is_dir():
            raise SoonerError(f"there is no folder {folder}; name folders that hold races, such as races")
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TaskProgressColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading what raced", total=None)
        found = table(
            collect(folders, published),
            lambda what, share: bar.update(task, description=what, completed=share, total=1.0),
        )
    if as_json:
        print(json.dumps(asdict(found), indent=1, allow_nan=False))
        return
    console = Console(highlight=False)
    console.print(_grid(found, console))
    for line in cautions(found):
        console.print(line, soft_wrap=True, markup=False)


def _grid(league: League, console: Console) -> Table:
    """Return the table: a column per workload where they fit, else one column that names them."""
    wide = _table(league, league.workloads, [[_ratio(r, w) for w in league.workloads] for r in league.rows])
    if console.measure(wide, options=console.options.update(max_width=_ANY)).maximum <= console.width:
        return wide
    return _table(league, ["steps"], [["\n".join(_named(row, league.workloads))] for row in league.rows])


def _table(league: League, headings: Sequence[str], cells: Sequence[Sequence[str]]) -> Table:
    grid = Table("rank", f"{LEVEL:.0%}", "contender", "strength", "rests on", *headings, box=None, pad_edge=False)
    for column in (grid.columns[0], grid.columns[1], grid.columns[3], grid.columns[4]):
        column.no_wrap = True
    grid.columns[2].overflow = "fold"
    for row, more in zip(league.rows, cells, strict=True):
        grid.add_row(str(row.rank), f"{row.low}-{row.high}", row.recipe, f"{row.strength:+.2f}", _rests(row), *more)
    return grid


def _rests(row: Row) -> str:
    return f"{row.comparisons} on {row.workloads}"


def _named(row: Row, workloads: Sequence[str]) -> list[str]:
    """Return the ratios of a contender, each with its workload."""
    return [f"{_ratio(row, workload)} {workload}" for workload in workloads if row.ratios[workload] is not None]


def _ratio(row: Row, workload: str) -> str:
    ratio = row.ratios[workload]
    return "" if ratio is None else f"{ratio:.2f}x"


def cautions(league: League) -> list[str]:
    """Return the sentences that belong to every league table."""
    names = ", ".join(row.recipe for row in league.rows)
    lines = [
        "",
        f"The second column is the {LEVEL:.0%} interval of the rank. Ratios are steps to the middle target over those "
        "of the median contender of the same race (geometric mean); there is none where a contender has not raced or "
        "misses.",
        "A rank rests on so many comparisons (seeds of races) on so many workloads. The reference is "
        f"{league.reference}.",
        f"{league.comparisons} comparisons (one per race and seed) among {len(league.rows)} contenders: {names}.",
    ]
    for group in league.through:
        remedy = f"; in this race they would: {group.race}" if group.race else ""
        lines.append(
            f"Never ran beside {league.reference}, and are ranked by way of others alone: "
            f"{', '.join(group.contenders)}{remedy}."
        )
    for group in league.apart:
        remedy = f"; this race would join them: {group.race}" if group.race else ""
        lines.append(f"Apart, as no race joins them with the table: {', '.join(group.contenders)}{remedy}.")
    if league.variants:
        lines.append(
            "Not in the table, as claims wrote them to take a method apart or to run it in its paper's settings: "
            f"{', '.join(league.variants)}."
        )
    for workload, tau in league.stability.items():
        moved = [r.recipe for r in league.rows if workload in r.without and abs(r.without[workload] - r.rank) > 2]
        missing = len(league.rows) - sum(workload in r.without for r in league.rows)
        shown = "too few contenders stay" if tau is None else f"Kendall's tau {tau:.2f} with the table"
        also = f"; {missing} contender{'s' * (missing > 1)} drop{'s' * (missing == 1)} out" if missing else ""
        more = f"; moved by more than two places: {', '.join(moved)}" if moved else ""
        lines.append(f"Without {workload}: {shown}{also}{more}.")
    swaps = [f"{a} and {b} without {out}" for out, a, b in league.swaps]
    lines.append(
        "A ranking depends on who is in the set. Taking out one contender "
        + (
            f"swaps {'; '.join(swaps[:_SHOWN])}{f' and {len(swaps) - _SHOWN} more pairs' * (len(swaps) > _SHOWN)}."
            if swaps
            else "swaps no two of the others here."
        )
    )
    return lines
