"""Directives of the verdicts: the list of all, how they fell, and what did not come out."""

from __future__ import annotations

from collections import Counter

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from sooner.claims._conclude import VERDICTS
from sooner.claims._evidence import Evidence
from sooner.report.claim import figure, met
from sooner_site.build_nodes import badge, code, page, paragraph, table, words
from sooner_site.snapshot import taken


def criteria_table(evidence: Evidence) -> nodes.Node:
    """Return what was fixed before the run and what came out."""
    rows = [[o.role + o.says, o.paper or "–", figure(o.measured), met(o)] for o in evidence.outcomes]
    return table(["criterion, fixed before the run", "paper", "here", "met"], rows, ["criteria"])


def age(name: str) -> list[nodes.Node]:
    """Return a warning where code changed since the run."""
    files = taken().older[name]
    if not files:
        return []
    changed = [node for file in files for node in (nodes.Text(" "), code(file))]
    text = paragraph("The code has changed since this was run, so the verdict may not hold for it. Changed:", changed)
    return [nodes.warning("", text)]


class Verdicts(SphinxDirective):
    """All published verdicts."""

    def run(self) -> list[nodes.Node]:
        """Return the counts and the table."""
        evidence = taken().evidence
        rows = [
            [page(f"evidence/{name}", name), badge(taken().verdict(name), f"evidence/{name}"), one.said["headline"]]
            for name, one in sorted(evidence.items(), key=lambda item: (VERDICTS.index(item[1].verdict), item[0]))
        ]
        return [paragraph(counted()), table(["claim", "verdict", "headline"], rows)]


class Counts(SphinxDirective):
    """One sentence on how the verdicts fell."""

    def run(self) -> list[nodes.Node]:
        """Return it as a paragraph."""
        return [paragraph(counted())]


def counted() -> str:
    """Return how many verdicts there are of each kind."""
    found = Counter(evidence.verdict for evidence in taken().evidence.values())
    total = sum(found.values())
    old = sum(map(bool, taken().older.values()))
    kinds = ", ".join(f"{found[verdict]} {verdict}" for verdict in VERDICTS if found[verdict])
    claims = "claim has" if total == 1 else "claims have"
    age = f" Of these, {old} are older than the code." if old else ""
    return f"{total} {claims} been run: {kinds}.{age}" if total else "No claim has been run yet."


class WithVerdict(SphinxDirective):
    """The published evidence with one verdict, each claim with its criteria."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return a part of the page per claim, or a sentence that there is none."""
        snapshot = taken()
        made: list[nodes.Node] = []
        for name, one in snapshot.evidence.items():
            if one.verdict == self.arguments[0]:
                made += [
                    nodes.rubric("", "", page(f"evidence/{name}", name)),
                    paragraph(one.said["headline"], " (", words(one.said["source"]), ")"),
                    *age(name),
                    criteria_table(one),
                ]
        return made or [paragraph("None at present.")]


class OlderThanCode(SphinxDirective):
    """The published evidence that is older than the code it speaks of."""

    def run(self) -> list[nodes.Node]:
        """Return a table of it, or a sentence that there is none."""
        rows = [
            [page(f"evidence/{name}", name), taken().evidence[name].verdict, ", ".join(files)]
            for name, files in taken().older.items()
            if files
        ]
        return [table(["claim", "verdict then", "changed since"], rows)] if rows else [paragraph("None at present.")]


def setup(app: Sphinx) -> None:
    """Register the directives."""
    app.add_directive("sooner-verdicts", Verdicts)
    app.add_directive("sooner-verdict-counts", Counts)
    app.add_directive("sooner-with-verdict", WithVerdict)
    app.add_directive("sooner-older-than-code", OlderThanCode)
