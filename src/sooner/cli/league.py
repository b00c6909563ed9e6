"""`sooner league`: the league table, who is in it, and how far to trust it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sooner.error import SoonerError
from sooner.league import LEVEL, League, collect, table

_SHOWN = 6


def show_league(folders: list[Path], *, published: bool, as_json: bool) -> None:
    """Print the league of the races below the folders and of the published evidence.

    Raises:
        SoonerError: a folder does not exist, or there is nothing to compare.
    """
    for folder in folders:
        if not folder.is_dir():
            raise SoonerError(f"there is no folder {folder}; name folders that hold races, such as races")
    found = table(collect(folders, published))
    if as_json:
        print(json.dumps(asdict(found), indent=1, allow_nan=False))
        return
    console = Console(highlight=False)
    console.print(_grid(found))
    for line in cautions(found):
        console.print(line, soft_wrap=True, markup=False)


def _grid(league: League) -> Table:
    grid = Table("rank", f"{LEVEL:.0%} interval", "contender", "strength", *league.workloads, box=None, pad_edge=False)
    for row in league.rows:
        cells = ["" if row.ratios[w] is None else f"{row.ratios[w]:.2f}x" for w in league.workloads]
        grid.add_row(str(row.rank), f"{row.low}-{row.high}", row.recipe, f"{row.strength:+.2f}", *cells)
    return grid


def cautions(league: League) -> list[str]:
    """Return the sentences that belong to every league table."""
    names = ", ".join(row.recipe for row in league.rows)
    lines = [
        "",
        "Columns are steps to the middle target over those of the median contender of the same race (geometric mean); "
        "empty where a contender has not raced or misses.",
        f"{league.comparisons} comparisons (one per race and seed) among {len(league.rows)} contenders: {names}.",
    ]
    lines += [f"Not connected with the table by any race: {', '.join(group)}." for group in league.apart]
    for workload, tau in league.stability.items():
        moved = [r.recipe for r in league.rows if workload in r.without and abs(r.without[workload] - r.rank) > 2]
        missing = len(league.rows) - sum(workload in r.without for r in league.rows)
        shown = "too few contenders stay" if tau is None else f"Kendall's tau {tau:.2f} with the table"
        also = f"; {missing} contenders drop out" if missing else ""
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
