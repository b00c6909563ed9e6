"""The directive of the catalogue: every source paper in one table, which catalogue.js makes searchable."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from sooner.catalogue import NEEDS, Paper
from sooner_site.assets import raw
from sooner_site.build_nodes import badge, page, table, url
from sooner_site.snapshot import taken


class Catalogue(SphinxDirective):
    """The search box, which stays hidden without a script, and the table."""

    def run(self) -> list[nodes.Node]:
        """Return both."""
        papers = sorted(taken().papers, key=lambda paper: (not paper.parts, not paper.forecasts, paper.title.lower()))
        made = table(["paper", "year", "station", "status", "parts", "verdict"], map(row, papers), ["catalogue"])
        made["ids"] = ["catalogue-table"]
        return [raw(form()), made]


def row(paper: Paper) -> list[Any]:
    """Return the cells of one paper."""
    parts = [node for name in paper.parts for node in (page(f"parts/{name}", name), nodes.Text(" "))]
    parts += [node for name in paper.forecasts for node in (page("forecast", name), nodes.Text(" "))]
    verdicts = [
        node
        for name in paper.parts
        if name in taken().evidence
        for node in (badge(taken().verdict(name), f"evidence/{name}"), nodes.Text(" "))
    ]
    return [about(paper), str(paper.year), paper.station, taken().status(paper), parts, verdicts]


def about(paper: Paper) -> list[nodes.Node]:
    """Return a paper's title, what it does, its own figures, whom it helps, and why it is outside where it is."""
    lines = [("method", paper.method), ("headline", f"Its figures: {paper.headline}")]
    lines += [("reason", f"Outside: {paper.reason}")] if paper.reason else []
    lines.append(("needs", ", ".join(paper.needs)))
    return [url(paper.link, paper.title), *(nodes.inline("", text, classes=[kind]) for kind, text in lines)]


def form() -> str:
    """Return the search box and the choice of a status; it carries what else a reader may call a need."""
    states = sorted({taken().status(paper) for paper in taken().papers})
    options = "".join(f"<option>{escape(state)}</option>" for state in states)
    needs = escape(json.dumps(NEEDS))
    return (
        f'<form class="catalogue-search" role="search" data-needs="{needs}" hidden>'
        '<label for="catalogue-words">Search</label>'
        '<input id="catalogue-words" type="search" autocomplete="off" '
        'placeholder="a title, a part, a verdict, or a need: less memory, slow network, NaN">'
        '<label for="catalogue-status">Status</label>'
        f'<select id="catalogue-status"><option value="">any</option>{options}</select>'
        '<output for="catalogue-words catalogue-status" aria-live="polite"></output>'
        "</form>"
    )


def setup(app: Sphinx) -> None:
    """Register the directive."""
    app.add_directive("sooner-catalogue", Catalogue)
