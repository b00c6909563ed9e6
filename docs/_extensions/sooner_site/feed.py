"""The Atom feed of new papers, parts and verdicts (RFC 4287), at the top of the site as feed.xml."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as Xml

from sphinx.application import Sphinx

from sooner_site.assets import TITLE
from sooner_site.news import entries

ATOM = "http://www.w3.org/2005/Atom"
NAMES = "tag:sooner,2026:"
"""Ids are tag URIs (RFC 4151): they stay the same wherever the site is published."""


def document(dates: Path, site: str = "") -> bytes:
    """Return the feed; links are relative to it unless the address of the site is known."""
    Xml.register_namespace("", ATOM)
    feed = Xml.Element(f"{{{ATOM}}}feed")
    listed = entries(dates)
    _add(feed, "id", NAMES + "feed")
    _add(feed, "title", TITLE)
    _add(feed, "updated", listed[0].when.isoformat())
    _add(_add(feed, "author"), "name", "The authors of sooner")
    _add(feed, "link", rel="self", type="application/atom+xml", href=f"{site}feed.xml")
    _add(feed, "link", rel="alternate", type="text/html", href=f"{site}index.html")
    for entry in listed:
        one = _add(feed, "entry")
        _add(one, "id", NAMES + entry.key)
        _add(one, "title", entry.title)
        _add(one, "updated", entry.when.isoformat())
        _add(one, "category", term=entry.kind)
        _add(one, "link", rel="alternate", type="text/html", href=f"{site}{entry.docname}.html")
        _add(one, "summary", entry.text)
    Xml.indent(feed)
    content: bytes = Xml.tostring(feed, encoding="utf-8", xml_declaration=True)
    return content


def _add(parent: Xml.Element, name: str, text: str = "", **attributes: str) -> Xml.Element:
    made = Xml.SubElement(parent, f"{{{ATOM}}}{name}", attributes)
    made.text = text or None
    return made


def write(app: Sphinx, error: Exception | None) -> None:
    """Write the feed when the site is done."""
    if error or app.builder.format != "html":
        return
    site = app.config.html_baseurl
    content = document(Path(app.confdir) / "news.toml", f"{site.rstrip('/')}/" if site else "")
    (Path(app.outdir) / "feed.xml").write_bytes(content)


def setup(app: Sphinx) -> None:
    """Connect."""
    app.connect("build-finished", write)
