"""The directive of the catalogue: every source paper in one table, which catalogue.js makes searchable."""

from __future__ import annotations

from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from sooner_site.assets import raw
from sooner_site.build_nodes import badge, page, table
from sooner_site.part_card import link_to
from sooner_site.snapshot import taken


class Catalogue(SphinxDirective):
    """The search box, which stays hidden without a script, and the table."""

    def run(self) -> list[nodes.Node]:
        """Return both."""
        papers = sorted(taken().papers, key=lambda paper: ("parts" not in paper, paper["title"].lower()))
        made = table(["paper", "year", "station", "status", "parts", "verdict"], map(row, papers), ["catalogue"])
        made["ids"] = ["catalogue-table"]
        return [raw(form(papers)), made]


def row(paper: dict[str, Any]) -> list[Any]:
    """Return the cells of one paper."""
    names = paper.get("parts", [])
    parts = [node for name in names for node in (page(f"parts/{name}", name), nodes.Text(" "))]
    verdicts = [
        node
        for name in names
        if name in taken().evidence
        for node in (badge(taken().verdict(name), f"evidence/{name}"), nodes.Text(" "))
    ]
    return [link_to(paper), str(paper["year"]), paper["station"], paper["status"], parts, verdicts]


def form(papers: list[dict[str, Any]]) -> str:
    """Return the search box and the choice of a status."""
    states = "".join(f"<option>{escape(state)}</option>" for state in sorted({p["status"] for p in papers}))
    return (
        '<form class="catalogue-search" role="search" hidden>'
        '<label for="catalogue-words">Search</label>'
        '<input id="catalogue-words" type="search" autocomplete="off" placeholder="title, station, part or verdict">'
        '<label for="catalogue-status">Status</label>'
        f'<select id="catalogue-status"><option value="">any</option>{states}</select>'
        '<output for="catalogue-words catalogue-status" aria-live="polite"></output>'
        "</form>"
    )


def setup(app: Sphinx) -> None:
    """Register the directive."""
    app.add_directive("sooner-catalogue", Catalogue)
