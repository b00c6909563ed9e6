"""`sooner papers`: list and search the catalogue."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from sooner import catalogue
from sooner.catalogue import Paper


def show_papers(query: str, *, as_json: bool) -> None:
    """Print the papers that a query finds, or all of them; a query that is a paper's id prints its whole row.

    Raises:
        SoonerError: a query without a hit.
    """
    found = catalogue.search(query) if query.strip() else list(catalogue.load())
    if as_json:
        print(json.dumps([_plain(paper) for paper in found], indent=1, ensure_ascii=False))
        return
    console = Console(highlight=False)
    if len(found) == 1:
        for name, value in _plain(found[0]).items():
            if value:
                shown = ", ".join(value) if isinstance(value, list) else str(value)
                console.print(f"{name:<9} {shown}", markup=False, soft_wrap=True)
        return
    grid = Table("paper\n  year, station\n  status", "what it does", box=None, pad_edge=False)
    for paper in found:
        grid.add_row(f"{paper.id}\n  {paper.year}, {paper.station}\n  {paper.status}", paper.method)
    console.print(grid)
    console.print(f"{len(found)} papers; `sooner papers ID` shows one, `sooner papers 'less memory'` searches")


def _plain(paper: Paper) -> dict[str, object]:
    kept = (
        "id",
        "title",
        "year",
        "arxiv",
        "link",
        "station",
        "status",
        "parts",
        "method",
        "headline",
        "needs",
        "reason",
    )
    return {name: getattr(paper, name) for name in kept}
