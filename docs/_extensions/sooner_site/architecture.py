"""The picture of the architecture: every folder of the package and every file beside them, above what it imports.

It is drawn from the import statements of the code (`import_graph`), so it is never older than the code. An arrow that
follows from two others is left out.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Mapping, Sequence, Set
from html import escape
from typing import TypeAlias

import import_graph
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from sooner.part import STATIONS
from sooner_site.assets import raw

Edges: TypeAlias = Mapping[str, Set[str]]
Stop: TypeAlias = str | tuple[str, str, int]
"""A unit, or where the arrow between two of them passes a row in between."""
Point: TypeAlias = tuple[float, float]

DOORS = ("sooner", "__main__", "training", "checkpoint")
"""Files that only show names which live elsewhere."""
WIDTH, HEIGHT, GAP, ABOVE, MARGIN = 112, 40, 14, 40, 10
BESIDE = 6
"""Stations in a row; the others stand in one below."""
NARROW = 6
"""What an arrow takes of a row that it passes."""


class Architecture(SphinxDirective):
    """The picture."""

    def run(self) -> list[nodes.Node]:
        """Return it."""
        return [raw(svg(import_graph.graph()))]


def svg(imports: Mapping[str, set[str]]) -> str:
    """Return the picture as SVG; its colours are those of the style sheet."""
    edges = edges_of(imports)
    depths = depths_of(edges)
    ways = ways_of(shortened(edges), depths)
    rows = arranged(depths, ways)
    wide = max(map(length, rows)) + 2 * MARGIN
    high = len(rows) * (HEIGHT + ABOVE) - ABOVE + 2 * MARGIN
    places = placed(rows, wide)
    lines = [line([places[stop] for stop in way], f"{way[0]} imports {way[-1]}") for way in ways]
    files = [unit_of(module) for module in imports]
    boxes = [box(places[unit], unit, files.count(unit)) for unit in depths]
    return (
        f'<svg class="architecture" viewBox="0 0 {wide:g} {high:g}" role="img" '
        'aria-label="Folders of the package, each above those that it imports">'
        f"{''.join(lines)}{''.join(boxes)}</svg>"
    )


def unit_of(module: str) -> str:
    """Return the folder of the package that a module lies in, or the file beside the folders that it is."""
    return module.split(".")[1] if "." in module else module


def edges_of(imports: Mapping[str, set[str]]) -> Edges:
    """Return which unit imports which."""
    edges: dict[str, set[str]] = {unit: set() for module in imports if (unit := unit_of(module)) not in DOORS}
    for module, found in imports.items():
        if (here := unit_of(module)) in edges:
            edges[here] |= {unit_of(one) for one in found} - {here, *DOORS}
    return edges


def shortened(edges: Edges) -> Edges:
    """Return the edges without those that a longer way implies."""

    def reached(start: str) -> set[str]:
        return {start}.union(*map(reached, edges[start]))

    return {
        here: {there for there in found if not any(there in reached(other) for other in found - {there})}
        for here, found in edges.items()
    }


def depths_of(edges: Edges) -> dict[str, int]:
    """Return the row of each unit, counted from the bottom: above all that it imports, the stations side by side."""
    given: dict[str, int] = {}

    def depth(unit: str) -> int:
        return given.get(unit, max((1 + depth(there) for there in edges[unit]), default=0))

    stations = [name for name in STATIONS if name in edges]
    lowest = max(map(depth, stations), default=0)
    given |= {name: lowest + (len(stations) - 1) // BESIDE - i // BESIDE for i, name in enumerate(stations)}
    return {unit: depth(unit) for unit in sorted(edges)}


def ways_of(edges: Edges, depths: Mapping[str, int]) -> list[list[Stop]]:
    """Return the edges as the stops from row to row."""
    return [
        [here, *((here, there, k) for k in range(depths[here] - 1, depths[there], -1)), there]
        for here, found in sorted(edges.items())
        for there in sorted(found)
    ]


def arranged(depths: Mapping[str, int], ways: Sequence[Sequence[Stop]]) -> list[list[Stop]]:
    """Return the rows from top to bottom, every stop near those that it is joined to; stations in a step's order."""
    stops = dict.fromkeys([*depths, *(stop for way in ways for stop in way)])
    row_of = {stop: depths[stop] if isinstance(stop, str) else stop[2] for stop in stops}
    rows = [[stop for stop in stops if row_of[stop] == k] for k in range(max(row_of.values()), -1, -1)]
    joined: dict[Stop, list[Stop]] = {stop: [] for stop in stops}
    for way in ways:
        for a, b in itertools.pairwise(way):
            joined[a].append(b)
            joined[b].append(a)
    for sweep in range(24):
        for row in rows if sweep % 2 else reversed(rows):
            centre = {stop: x for each in rows for stop, (x, _) in placed([each], 0).items()}
            near = {stop: sum(map(centre.__getitem__, joined[stop])) / max(len(joined[stop]), 1) for stop in row}
            row.sort(key=near.__getitem__)
            stations = iter([name for name in STATIONS if name in row])
            row[:] = [next(stations) if stop in STATIONS else stop for stop in row]
    return rows


def width(stop: Stop) -> float:
    """Return how wide a stop is."""
    return WIDTH if isinstance(stop, str) else NARROW


def length(row: Sequence[Stop]) -> float:
    """Return how wide a row is."""
    return sum(map(width, row)) + GAP * (len(row) - 1)


def placed(rows: Sequence[Sequence[Stop]], wide: float) -> dict[Stop, Point]:
    """Return where the middle of the upper side of each stop is, rows centred in a picture of this width."""
    places: dict[Stop, Point] = {}
    for k, row in enumerate(rows):
        x = (wide - length(row)) / 2
        for stop in row:
            places[stop] = x + width(stop) / 2, MARGIN + k * (HEIGHT + ABOVE)
            x += width(stop) + GAP
    return places


def line(stops: Sequence[Point], told: str) -> str:
    """Return an arrow from the foot of the first box past some rows to the head of the last one."""
    (x, y), *between, (to_x, to_y) = stops
    y += HEIGHT
    path = f"M{x:g} {y:g}"
    for nx, ny in [*between, (to_x, to_y - 6)]:
        bend = (ny - y) / 2
        path += f" C{x:g} {y + bend:g} {nx:g} {ny - bend:g} {nx:g} {ny:g}"
        x, y = nx, ny
        if ny + 6 != to_y:
            y += HEIGHT
            path += f" V{y:g}"
    return (
        f'<path d="{path}"><title>{escape(told)}</title></path>'
        f'<path class="head" d="M{to_x:g} {to_y:g} l-3.5 -7 h7 z"/>'
    )


def box(place: Point, unit: str, files: int) -> str:
    """Return the box of a unit, with the first sentence of its file for whoever points at it."""
    x, y = place
    kind = "station" if unit in STATIONS else "unit"
    count = f"{files} file{'s' * (files != 1)}"
    return (
        f'<g class="{kind}"><title>{escape(summary(unit))}</title>'
        f'<rect x="{x - WIDTH / 2:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="4"/>'
        f'<text class="name" x="{x:g}" y="{y + 17:g}">{escape(unit)}</text>'
        f'<text class="count" x="{x:g}" y="{y + 32:g}">{count}</text></g>'
    )


def summary(unit: str) -> str:
    """Return the first paragraph of what a unit says of itself."""
    folder = import_graph.SOURCE / "sooner" / unit
    file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or unit
    return " ".join(text.split("\n\n")[0].split())


def setup(app: Sphinx) -> None:
    """Register the directive."""
    app.add_directive("sooner-architecture", Architecture)
