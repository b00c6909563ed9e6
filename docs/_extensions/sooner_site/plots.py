"""Plots in a page: the figure as data for evidence.js, and in words for whoever does not see it."""

from __future__ import annotations

from html import escape

from docutils import nodes

from sooner.claims._evidence import Evidence
from sooner.report.claim import figure, met
from sooner.report.figures import claim
from sooner.report.figures.base import Figure
from sooner.report.html import embed, finite
from sooner_site.assets import raw

CAPTION = (
    "Points are figures, lines their 95 % intervals. A blue circle met its criterion, an orange cross did not, a "
    "diamond is open. The dotted tick is the criterion's limit, the triangle the paper's own figure, the shaded band "
    "what the baseline shows against itself. The same figures stand in the table."
)


def drawn(evidence: Evidence) -> dict[str, Figure]:
    """Return the plots of the evidence."""
    return claim.build(evidence)


def criteria(evidence: Evidence, plots: dict[str, Figure], where: str) -> list[nodes.Node]:
    """Return the plots of the criteria, with one caption for all of them."""
    told = "; ".join(f"{o.says}: {figure(o.measured)}, met: {met(o)}" for o in evidence.outcomes)
    made: list[nodes.Node] = [
        plot(f"{where}-{i}", drawing, told)
        for i, (name, drawing) in enumerate(plots.items())
        if name.startswith("criteria")
    ]
    return [*made, raw(f'<p class="plot-caption">{escape(CAPTION)}</p>')] if made else []


def plot(name: str, drawing: Figure, told: str) -> nodes.raw:
    """Return one plot; `told` says in words what it shows."""
    height = drawing["layout"]["height"]
    return raw(
        f'<div class="evidence-plot" id="plot-{name}" data-figure="figure-{name}" style="height: {height}px" '
        f'role="img" aria-label="{escape(told)}"></div>'
        f'<script type="application/json" id="figure-{name}">{embed(finite(drawing))}</script>'
    )
