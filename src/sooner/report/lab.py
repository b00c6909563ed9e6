"""What the lab found about a truth, as text for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sooner.lab._evidence import Evidence
from sooner.report.claim import figure, met


def told(evidence: Evidence) -> tuple[str, str]:
    """Return where the truth is shown, and where it is not, as two lists in words."""
    shown = evidence.shown()
    return ", ".join(w for w, yes in shown.items() if yes), ", ".join(w for w, yes in shown.items() if not yes)


def card(evidence: Evidence) -> Group:
    """Return the sentence, its source, the criteria with figures by workload, and where it is shown."""
    said = evidence.said
    parts: list[RenderableType] = [
        Text(f"{evidence.truth}: {said['says']}"),
        Text(f"source: {said['source']}"),
        Text(f"expected: {said['expected']}"),
    ]
    for workload, outcomes in evidence.outcomes.items():
        grid = Table(f"on {workload}, fixed before the run", "source", "here", "met", box=None, pad_edge=False)
        for outcome in outcomes:
            control = "control: " if outcome.control else ""
            grid.add_row(control + outcome.says, outcome.paper or "-", figure(outcome.measured), met(outcome))
        parts += [Text(""), grid]
        if absent := said["absent"].get(workload):
            parts.append(Text(f"not expected here: {absent}"))
    shown, not_shown = told(evidence)
    older = evidence.older_than_code()
    age = f" (older than {', '.join(older)})" if older else ""
    words = f"shown on {shown or 'no workload'}" + (f"; not shown on {not_shown}" if not_shown else "")
    return Group(*parts, Text(""), Text(words + age, style="bold"))
