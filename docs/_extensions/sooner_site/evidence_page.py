"""The directive of an evidence page: everything that is known from one claim's run."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from sooner.claims._evidence import Evidence
from sooner.report.claim import figure, sentence
from sooner.report.numbers import date, duration, number
from sooner.report.words import final_value, primary, steps_ratio
from sooner_site import plots
from sooner_site.build_nodes import badge, code, facts, page, paragraph, section, table, url, words
from sooner_site.snapshot import taken
from sooner_site.verdicts import age, criteria_table

LONGEST = 40
"""Rows of a measurement that its page shows; the data itself has all of them."""


class EvidencePage(SphinxDirective):
    """Everything that is known from one claim's run."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return headline, criteria, plots, findings, provenance and code."""
        name = self.arguments[0]
        evidence = taken().evidence[name]
        said, drawn = evidence.said, plots.drawn(evidence)
        card = [" ", page(f"parts/{name}", "The part's card"), "."] if name in taken().parts else []
        return [
            paragraph(badge(taken().verdict(name)), " ", said["headline"]),
            paragraph("Source: ", words(said["source"]), ".", card),
            paragraph(nodes.strong("", "Verdict: "), sentence(evidence), "."),
            *age(name),
            section(self, "Criteria", criteria_table(evidence), *plots.criteria(evidence, drawn, "criteria")),
            section(self, "What was done", *self._done(evidence)),
            *self._trend(evidence, drawn),
            *(self._finding(name, found, drawn) for name, found in evidence.findings.items()),
            section(self, "Where this comes from", *self._provenance(evidence)),
        ]

    def _done(self, evidence: Evidence) -> list[nodes.Node]:
        said = evidence.said
        limits = [paragraph(nodes.strong("", "Limits: "), said["limits"])] if said["limits"] else []
        regime = [facts([(label, words) for label, words in evidence.regime.items()])] if evidence.regime else []
        baseline = paragraph(nodes.strong("", "Baseline: "), said["baseline"])
        return [paragraph(said["experiment"]), baseline, *regime, *limits]

    def _trend(self, evidence: Evidence, drawn: dict[str, Any]) -> list[nodes.Node]:
        if not evidence.trend:
            return []
        rows = [[label, figure(measured)] for label, measured in evidence.trend.items()]
        told = "; ".join(": ".join(row) for row in rows)
        shown = [plots.plot(f"trend-{i}", d, told) for i, (n, d) in enumerate(drawn.items()) if n.startswith("trend")]
        return [section(self, "Trend", table(["", "figure"], rows), *shown)]

    def _finding(self, name: str, found: dict[str, Any], drawn: dict[str, Any]) -> nodes.Node:
        if "contenders" not in found:
            return section(self, f"Measurement: {name}", *cases(found["cases"]))
        task = found["task"]
        seeds = ", ".join(f"{kind} {span(numbers)}" for kind, numbers in found["seeds"].items())
        said = f"{task['description']} {task['parameters']:,} parameters, {task['steps']:,} steps, {found['regime']}."
        curves = drawn.get(f"curves: {name}")
        told = "Mean learning curves: " + "; ".join(
            f"{row['recipe']} ends at {final_value(row['final'])}" for row in found["contenders"]
        )
        shown = [plots.plot(nodes.make_id(f"curves {name}"), curves, told)] if curves else []
        notes = [nodes.bullet_list("", *(nodes.list_item("", paragraph(note)) for note in found["notes"]))]
        return section(
            self,
            f"Race: {name}",
            paragraph(said),
            contenders(found),
            *shown,
            *(notes if found["notes"] else []),
            facts([("Seeds", seeds), ("Data", [task["data"] or "", " ", code(task["fingerprint"])])]),
        )

    def _provenance(self, evidence: Evidence) -> list[nodes.Node]:
        p = evidence.provenance
        older = taken().older[evidence.claim]
        machine = p["machine"]
        rows = [[code(file), code(digest), "yes" if file in older else "no"] for file, digest in evidence.code.items()]
        return [
            facts(
                [
                    ("Command", code(p["command"])),
                    ("Date", f"{date(p['started'])}, took {duration(p['started'], p['finished'])}"),
                    ("Versions", ", ".join(f"{name} {version}" for name, version in p["versions"].items())),
                    ("Machine", ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in machine.items())),
                    ("Race rules", [page("race-rules", f"version {p['rules']}")]),
                    ("Data", url(f"data/{evidence.claim}.jsonl", f"{evidence.claim}.jsonl")),
                ]
            ),
            paragraph("Same command, same numbers, on the same machine and versions. The code it ran:"),
            *confirmed(evidence),
            table(["file in src/sooner", "digest", "changed since"], rows),
        ]


def confirmed(evidence: Evidence) -> list[nodes.Node]:
    """Return when newer code was found to behave as the one that was run."""
    if not evidence.confirmed:
        return []
    tolerance = f"{evidence.confirmed['tolerance']:g}"
    when = date(evidence.confirmed["when"])
    return [paragraph(f"Files changed later on behaved as before on {when}, to a relative tolerance of {tolerance}.")]


def contenders(found: dict[str, Any]) -> nodes.Node:
    """Return the table of a race."""
    target = found["primary_target"]
    rows = []
    for row in found["contenders"]:
        hit = primary(row, found)
        hits = f"{hit['hits']}/{hit['of']}" if hit.get("of") else "–"
        verdict = row["verdict"] or "–"
        recipe = code(row["tuned_recipe"] or row["recipe"])
        rows.append([recipe, verdict, steps_ratio(row, found, target), hits, final_value(row["final"] or {})])
    headings = [
        "recipe as tuned",
        "verdict",
        f"steps to the {target} target",
        "reached",
        f"final {found['task']['metric']}",
    ]
    return table(headings, rows)


def cases(found: list[dict[str, Any]]) -> list[nodes.Node]:
    """Return the cases of a measurement with their values, lists as their lengths."""
    inputs = list(dict.fromkeys(key for case in found for key in case["case"]))
    outputs = list(dict.fromkeys(key for case in found for key in case["values"]))
    rows = [
        [*(shown(case["case"].get(key)) for key in inputs), *(shown(case["values"].get(key)) for key in outputs)]
        for case in found[:LONGEST]
    ]
    headings = [key.replace("_", " ") for key in (*inputs, *outputs)]
    more = [paragraph(f"The first {LONGEST} of {len(found)} cases; the data has all.")] if len(found) > LONGEST else []
    return [table(headings, rows), *more]


def shown(value: Any) -> str:
    """Return one value of a measurement."""
    return f"{len(value)} values" if isinstance(value, list) and len(value) > 4 else number(value)


def span(numbers: list[int]) -> str:
    """Return "30000 to 30007" for neighbours."""
    if len(numbers) > 1 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))


def setup(app: Sphinx) -> None:
    """Register the directive."""
    app.add_directive("sooner-evidence", EvidencePage)
