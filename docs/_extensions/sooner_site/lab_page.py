"""Directives of the lab: which known truths are shown on which workload, and by how much."""

from __future__ import annotations

from collections import Counter

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from sooner.lab._evidence import Evidence
from sooner.report.claim import figure, met
from sooner_site.build_nodes import code, page, paragraph, section, table, url, words
from sooner_site.snapshot import taken


class Lab(SphinxDirective):
    """All truths: where they are shown, and what decided."""

    def run(self) -> list[nodes.Node]:
        """Return the table of truths by workloads, that of workloads, and a section per truth."""
        found = taken().lab
        if not found:
            return [paragraph("No truth has been looked for yet.")]
        rows = [[code(name), one.said["says"], *where(one)] for name, one in found.items()]
        return [
            paragraph(counted()),
            table(["truth", "what it says", "shown on", "not shown on"], rows),
            section(self, "By workload", table(["workload", "shows", "does not show"], by_workload())),
            *(section(self, name.replace("_", " ").capitalize(), *self._truth(one)) for name, one in found.items()),
        ]

    def _truth(self, evidence: Evidence) -> list[nodes.Node]:
        said, p = evidence.said, evidence.provenance
        rows = [
            [
                page(f"workloads/{w}", w),
                ("control: " if o.control else "") + o.says,
                o.paper or "–",
                figure(o.measured),
                met(o),
            ]
            for w, outcomes in evidence.outcomes.items()
            for o in outcomes
        ]
        kind = "Known by construction. " if said["oracle"] else ""
        absent = [paragraph(f"Not expected on {workload}: {why}.") for workload, why in said["absent"].items()]
        older = evidence.older_than_code()
        changed = [node for file in older for node in (nodes.Text(" "), code(file))]
        old = (
            [nodes.warning("", paragraph("The code has changed since this was run. Changed:", changed))]
            if older
            else []
        )
        return [
            paragraph(kind, said["says"], " Source: ", words(said["source"]), ". Expected: ", said["expected"], "."),
            *old,
            table(["workload", "criterion, fixed before the run", "source", "here", "met"], rows, ["criteria"]),
            *absent,
            paragraph(
                code(p["command"]),
                f", rules {p['rules']}, ",
                url(f"evidence/data/lab/{evidence.truth}.jsonl", "data"),
                ".",
            ),
        ]


class LabCounts(SphinxDirective):
    """One sentence on how many truths are shown."""

    def run(self) -> list[nodes.Node]:
        """Return it as a paragraph."""
        return [paragraph(counted(), " ", page("lab", "All of them"), ".")]


def where(evidence: Evidence) -> list[str]:
    """Return where a truth is shown, and where it is not."""
    shown = evidence.shown()
    return [", ".join(w for w, yes in shown.items() if yes is kind) or "–" for kind in (True, False)]


def by_workload() -> list[list[object]]:
    """Return for each workload the truths that it shows, and those that it does not."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for name, evidence in taken().lab.items():
        for workload, yes in evidence.shown().items():
            found.setdefault(workload, ([], []))[0 if yes else 1].append(name.replace("_", " "))
    return [
        [page(f"workloads/{w}", w), ", ".join(shown) or "–", ", ".join(not_shown) or "–"]
        for w, (shown, not_shown) in sorted(found.items())
    ]


def counted() -> str:
    """Return how many truths are shown, and on how many workloads."""
    found = taken().lab
    if not found:
        return "No truth has been looked for yet."
    on = [sum(one.shown().values()) for one in found.values()]
    workloads = Counter(w for one in found.values() for w, yes in one.shown().items() if yes)
    failing = sum(bool(one.failing()) for one in found.values())
    places = f"{len(workloads)} workload{'s' * (len(workloads) != 1)}"
    said = f"{sum(map(bool, on))} of {len(found)} known truths are shown, on {places}, "
    said += f"{sum(n > 1 for n in on)} of them on two or more."
    return f"{said} {failing} are not shown where they should be." if failing else said


def setup(app: Sphinx) -> None:
    """Register the directives."""
    app.add_directive("sooner-lab", Lab)
    app.add_directive("sooner-lab-counts", LabCounts)
