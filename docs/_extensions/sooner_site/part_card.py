"""Directives of the parts: one card each, and the list of all of them by station."""

from __future__ import annotations

import inspect
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from sooner import catalogue, part
from sooner.report.part_card import company
from sooner.space import Choice, Log
from sooner_site import plots
from sooner_site.build_nodes import badge, code, facts, page, paragraph, prose, python, section, table, url
from sooner_site.snapshot import taken
from sooner_site.verdicts import age, criteria_table

STATIONS = {
    "data": "What the step sees",
    "model": "How the network is built",
    "precision": "With how many bits",
    "loss": "What is minimised",
    "gradient": "What is done to gradients",
    "communication": "What crosses the wire",
    "update": "How weights move",
    "schedule": "How far, when, on how much",
    "weights": "Which weights are kept",
    "memory": "What is not kept",
    "adapter": "Few weights instead of all",
    "diffusion": "How a denoiser is trained",
    "rl": "How a policy is improved",
    "decoding": "How a sequence model is sampled",
}


WORKLOADS = {"diffusion": "digits_flow", "rl": "sums"}
"""Where the parts of a domain race; elsewhere they have nothing to do."""

COMPANIONS = {"memory": "top_k", "local step": "local_sgd", "cohort": "local_sgd"}
"""What a communication part that owns this needs beside it to be of any effect."""


class PartCard(SphinxDirective):
    """One part: what it does, whether it holds what its paper says, and how to use it."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the card."""
        name = self.arguments[0]
        found, about = part.load(name), part.about(name)
        rule = [nodes.literal_block(about.rule, about.rule, language="none")] if about.rule else []
        return [
            paragraph(verdict(name)),
            *prose(about.summary),
            *prose("\n\n".join(filter(None, (about.use, about.leave, about.cost)))),
            *self._evidence(name),
            section(self, "How it works", *rule, *prose("\n\n".join(about.text))),
            section(self, "Use it", *use(name, found)),
            section(self, "What it goes with", *prose("\n".join(f"- {line}" for line in company(name)))),
            section(self, "Settings", *settings(found)),
        ]

    def _evidence(self, name: str) -> list[nodes.Node]:
        if name not in taken().evidence:
            return []
        evidence = taken().evidence[name]
        link = page(f"evidence/{name}", "The evidence: what was run, where, and the data")
        drawn = plots.criteria(evidence, plots.drawn(evidence), "criteria")
        quote = paragraph(nodes.strong("", "The claim: "), evidence.said["headline"])
        return [section(self, "Does it hold?", quote, *age(name), criteria_table(evidence), *drawn, paragraph(link))]


def verdict(name: str) -> nodes.Node:
    """Return the badge of a part, linked to its evidence where there is any."""
    return badge(taken().verdict(name), f"evidence/{name}" if name in taken().evidence else "")


def use(name: str, found: type[Any]) -> list[nodes.Node]:
    """Return how to call the part, the paper it comes from, and where it is described in full."""
    station = found.station
    recipe = recipe_of(name, found)
    call = f"sooner.{station}.{found.__name__}"
    against = f'--workers 8 --recipes "sgd; {recipe}"' if station == "communication" else f'--recipes "adamw; {recipe}"'
    race = f"sooner race {WORKLOADS[station]} {against}\n" if station in WORKLOADS else f"sooner race {against}\n"
    race = "" if station == "decoding" else race  # it has no part in training
    lines = f'{race}sooner explain "{recipe}"\nsooner claim {name}\n'
    paper = catalogue.of_part(name)
    pairs: list[tuple[str, Any]] = [("In Python", python(call)), ("Station", page("parts/index", station))]
    if paper:
        pairs.append(("Its headline", paper.headline))
        pairs.append(("Paper", [url(paper.link, paper.title), f" ({paper.year})"]))
    return [nodes.literal_block(lines, lines, language="sh"), facts(pairs)]


def recipe_of(name: str, found: type[Any]) -> str:
    """Return the shortest recipe in which the part does something; most don't move weights themselves."""
    if "step" in found.owns:
        return name
    if found.station == "communication":
        companions = [other for thing, other in COMPANIONS.items() if found.owns == {thing}]
        return " + ".join(["sgd", *companions, name])
    before = part.STATIONS.index(found.station) < part.STATIONS.index("update")
    return f"{name} + adamw" if before else f"adamw + {name}"


def settings(found: type[Any]) -> list[nodes.Node]:
    """Return the hyper-parameters with their defaults, and the ranges in which a race tunes them."""
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    given = [p for p in inspect.signature(found).parameters.values() if p.kind not in kinds]
    rows = [
        [code(p.name), "given by you" if p.default is p.empty else code(repr(p.default)), tuned(found, p.name)]
        for p in given
    ]
    return [table(["name", "default", "tuned in a race"], rows)] if rows else [paragraph("It has none.")]


def tuned(found: type[Any], name: str) -> str:
    """Return the range of a hyper-parameter in words."""
    knob = found.space.get(name)
    if knob is None:
        return "–"
    if isinstance(knob, Choice):
        return "one of " + ", ".join(map(repr, knob.values))
    return f"{knob.low:g} to {knob.high:g}{', logarithmic' if isinstance(knob, Log) else ''}"


class Parts(SphinxDirective):
    """All parts by station, each with its sentence and its verdict."""

    def run(self) -> list[nodes.Node]:
        """Return a section with a table per station."""
        snapshot = taken()
        made: list[nodes.Node] = []
        for station in part.STATIONS:
            names = sorted(name for name, home in snapshot.parts.items() if home == station)
            rows = [[page(f"parts/{n}", n), prose_line(n), verdict(n)] for n in names]
            if rows:
                title = f"{station}: {STATIONS[station][0].lower()}{STATIONS[station][1:]}"
                made.append(section(self, title, table(["part", "what it does", "verdict"], rows)))
        return made


def prose_line(name: str) -> list[nodes.Node]:
    """Return the sentence of a part."""
    return [child for block in prose(part.summary(name)) for child in block.children]


def setup(app: Sphinx) -> None:
    """Register the directives."""
    app.add_directive("sooner-part", PartCard)
    app.add_directive("sooner-parts", Parts)
