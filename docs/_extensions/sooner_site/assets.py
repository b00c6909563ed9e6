"""Scripts and styles: plotly.js written once as a local file, and loaded only by pages that have a plot."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

import sooner.report
from sooner_site.snapshot import taken

PLOTLY = "plotly.min.js"
PLOTS = Path(sooner.report.__file__).parent / "page" / "plots.js"
"""How the plots of reports are drawn; those of the site are drawn alike."""
TITLE = "sooner: papers, parts and verdicts"


def page_context(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Load on each page only what it needs, and name the feed to whoever looks for one."""
    body = context.get("body", "")
    if 'class="evidence-plot' in body:
        app.add_js_file(PLOTLY, priority=600)
        app.add_js_file(PLOTS.name, priority=601)
        app.add_js_file("evidence.js", priority=602)
    if 'id="catalogue-table"' in body:
        app.add_js_file("catalogue.js", priority=600)
    feed = context["pathto"]("feed.xml", resource=True)
    link = f'<link rel="alternate" type="application/atom+xml" title="{TITLE}" href="{feed}">'
    context["metatags"] = context.get("metatags", "") + link


def write(app: Sphinx, error: Exception | None) -> None:
    """Write plotly.js, and copy what draws the plots, and the evidence itself beside its pages."""
    if error or app.builder.format != "html":
        return
    from plotly.offline import get_plotlyjs

    (Path(app.outdir) / "_static" / PLOTLY).write_text(get_plotlyjs(), encoding="utf-8")
    shutil.copy(PLOTS, Path(app.outdir) / "_static")
    data = Path(app.outdir) / "evidence" / "data"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    for name in taken().evidence:
        shutil.copy(taken().folder / f"{name}.jsonl", data)
    (data / "lab").mkdir()
    for name in taken().lab:
        shutil.copy(taken().folder / "lab" / f"{name}.jsonl", data / "lab")


def setup(app: Sphinx) -> None:
    """Connect."""
    app.add_css_file("site.css")
    app.connect("html-page-context", page_context)
    app.connect("build-finished", write)


def raw(html: str) -> nodes.raw:
    """Return HTML as it stands."""
    return nodes.raw("", html, format="html")
