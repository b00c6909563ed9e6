"""When papers, parts and verdicts came: what the feed tells, and the list of the latest on the page about it."""

from __future__ import annotations

import datetime
import tomllib
from dataclasses import dataclass
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from sooner import part
from sooner_site.build_nodes import page, paragraph, table, url
from sooner_site.snapshot import taken

TOGETHER = 5
"""More papers than these that come on one day are one entry."""


@dataclass(frozen=True)
class Entry:
    """One thing that is new.

    Attributes:
        key: says for ever which thing it is.
        kind: "paper", "part" or "verdict".
        title: what a reader lists.
        when: with time zone.
        docname: the page about it.
        text: a few sentences.
    """

    key: str
    kind: str
    title: str
    when: datetime.datetime
    docname: str
    text: str


def entries(dates: Path) -> list[Entry]:
    """Return everything that is new, latest first; `dates` is docs/news.toml."""
    made = [_verdict(name) for name in taken().evidence]
    titles = {paper.id: paper.title for paper in taken().papers}
    for day in tomllib.loads(dates.read_text(encoding="utf-8"))["day"]:
        when = datetime.datetime.combine(day["date"], datetime.time(), datetime.UTC)
        made += [_part(name, when) for name in day.get("parts", []) if name in taken().parts]
        made += _papers([one for one in day.get("papers", []) if one in titles], titles, when)
    return sorted(made, key=lambda entry: (entry.when, entry.key), reverse=True)


def _verdict(name: str) -> Entry:
    """Return the entry of a verdict; another verdict on the same claim is another entry."""
    found = taken().evidence[name]
    key = f"verdict/{name}/{found.verdict.replace(' ', '-')}"
    when = datetime.datetime.fromisoformat(found.provenance["finished"])
    return Entry(key, "verdict", f"{name}: {found.verdict}", when, f"evidence/{name}", found.said["headline"])


def _part(name: str, when: datetime.datetime) -> Entry:
    station = taken().parts[name]
    return Entry(f"part/{name}", "part", f"New part ({station}): {name}", when, f"parts/{name}", part.summary(name))


def _papers(ids: list[str], titles: dict[str, str], when: datetime.datetime) -> list[Entry]:
    if len(ids) > TOGETHER:
        title = f"{len(ids)} papers are new in the catalogue"
        text = "; ".join(titles[one] for one in ids)
        return [Entry(f"papers/{when:%Y-%m-%d}", "paper", title, when, "catalogue", text)]
    return [Entry(f"paper/{one}", "paper", f"New paper: {titles[one]}", when, "catalogue", titles[one]) for one in ids]


class News(SphinxDirective):
    """The latest entries of the feed."""

    def run(self) -> list[nodes.Node]:
        """Return a table of them."""
        latest = entries(Path(self.env.app.confdir) / "news.toml")[:30]
        rows = [[f"{entry.when:%Y-%m-%d}", page(entry.docname, entry.title)] for entry in latest]
        return [paragraph(url("feed.xml", "Subscribe: feed.xml")), table(["date", "what is new"], rows)]


def setup(app: Sphinx) -> None:
    """Register the directive."""
    app.add_directive("sooner-news", News)
