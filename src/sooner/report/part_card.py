"""The card of a part: what it does and costs, when to use it, what it goes with, its paper, what its claim showed."""

from __future__ import annotations

import inspect
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from sooner import catalogue, part
from sooner.claims import _evidence
from sooner.error import SoonerError
from sooner.recipe import explain
from sooner.report.claim import card as claim_card

NEEDS = {
    "closure": "a loop that lets it evaluate the loss again (`sooner.train` does; else pass an Objective to step)",
    "held-out loss": "a loop with a held-out batch (`sooner.train` has one)",
    "losses": "a task that defines losses(model, batch), the terms of its loss",
    "batch": "a loop that hands it the batch (`sooner.train` does)",
    "next batch": "a loop that hands it the next batch too (`sooner.train` does)",
    "flow times": "a task with a flow-matching loss that lets it choose the times, such as digits_flow",
    "rollouts": "a task whose loss hands it its rollouts, such as sums",
    "domains": "a task whose examples have domains, such as languages; elsewhere give it to a DataLoader",
    "draft model": "a target and a draft model that generate text; it takes no part in training",
    "variable batch size": "a loop of your own that can change the batch; races fix it",
}
"""What a part declares as `needs`, in words."""


def card(name: str) -> Group:
    """Return the card of a bundled part.

    Raises:
        SoonerError: no part has that name.
    """
    about, found = part.about(name), part.load(name)
    sections: list[tuple[str, RenderableType]] = []
    if about.rule:
        sections.append(("update rule", Text(about.rule)))
    sections.append(("knobs", Text("\n".join(knobs(found)) or "none")))
    sections += [
        ("when", Text(f"{about.use}\n{about.leave}")),
        ("cost", Text(about.cost)),
        ("goes with", Text("\n".join(company(name)))),
        ("source", Text("\n".join(_source(name, about)))),
    ]
    lines: list[RenderableType] = [Text(f"{name} ({found.station})", style="bold"), Text(about.summary)]
    for title, body in sections:
        lines += [Text(""), Text(title, style="bold"), Padding(body, (0, 0, 0, 2), expand=False)]
    return Group(*lines, Text(""), Text("claim", style="bold"), Padding(_claim(name), (0, 0, 0, 2), expand=False))


def knobs(found: type[part.Part]) -> list[str]:
    """Return a line per hyper-parameter: its default, and the range that a race tunes."""
    lines = []
    for name, parameter in inspect.signature(found).parameters.items():
        if parameter.default is inspect.Parameter.empty or parameter.kind is parameter.VAR_KEYWORD:
            continue
        tuned = f"   a race tunes {_range(found.space[name].describe())}" if name in found.space else ""
        lines.append(f"{name} = {parameter.default!r}{tuned}")
    return lines


def company(name: str) -> list[str]:
    """Return what a part needs, and which other parts own the same thing as it does."""
    found = part.load(name)
    lines = [f"needs {NEEDS.get(need, need)}" for need in sorted(found.needs)]
    for thing in sorted(found.owns):
        rivals = [other for other in part.names() if other != name and thing in part.load(other).owns]
        if "step" in found.owns:  # what optimizers own, they own of parameters of their own
            rivals = [other for other in rivals if "step" not in part.load(other).owns]
        if thing == "step":
            lines.append("one optimizer per parameter: divide a model between two with on='pattern' and on='rest'")
        elif rivals:
            lines.append(f"owns the {thing}, as do {', '.join(rivals)}: a recipe has one of them")
        else:
            lines.append(f"owns the {thing}: a recipe has it once")
    return lines or ["any other part"]


def resolved(name: str) -> str:
    """Return the resolved lines of the simplest recipe with a part in it."""
    alone = part.names()[name] == "update" and "step" in part.load(name).owns
    return explain(name if alone else f"sgd + {name}")


def _source(name: str, about: part.About) -> list[str]:
    paper = catalogue.of_part(name)
    lines = [about.text[-1]] if about.text else []
    if paper:
        lines += [f"{paper.title} ({paper.year}), {paper.link}", f"its headline: {paper.headline}"]
    return lines


def _claim(name: str) -> RenderableType:
    try:
        evidence = _evidence.find(name)
    except SoonerError as error:
        return Text(str(error))
    if evidence is None:
        return Text(f"not run yet; `sooner claim {name}` runs it here")
    return claim_card(evidence)


def _range(described: dict[str, Any]) -> str:
    if described["kind"] == "choice":
        return "{" + ", ".join(map(repr, described["values"])) + "}"
    return f"[{described['low']:g}, {described['high']:g}]"
