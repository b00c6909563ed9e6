"""The page on the architecture: the files that it names are there, and the picture shows all of the package."""

import re
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
PACKAGE = DOCS.parent / "src" / "sooner"
sys.path.append(str(DOCS / "_extensions"))

import import_graph  # noqa: E402
from sooner_site import architecture  # noqa: E402


def test_every_file_that_the_page_names_is_there():
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    named = [name for name in re.findall(r"`([a-z_]+(?:/[a-z_]+)*(?:\.py|\.toml|/))`", page) if "NAME" not in name]
    assert len(named) > 40
    here = [name for name in named if not (PACKAGE / name).exists() and not (DOCS.parent / name).exists()]
    assert here == []


def test_the_picture_shows_every_folder_above_what_it_imports():
    imports = import_graph.graph()
    edges = architecture.edges_of(imports)
    assert import_graph.circles(edges) == []
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders <= set(edges)
    rows = architecture.arranged(
        depths := architecture.depths_of(edges),
        architecture.ways_of(architecture.shortened(edges), depths),
    )
    at = {stop: k for k, row in enumerate(rows) for stop in row}
    assert all(at[here] < at[there] for here, found in edges.items() for there in found)
    drawn = architecture.svg(imports)
    assert all(f">{unit}</text>" in drawn for unit in edges)


def test_arrows_that_follow_from_others_are_left_out():
    edges = {"a": {"b", "c", "d"}, "b": {"c"}, "c": set(), "d": set()}
    assert architecture.shortened(edges) == {"a": {"b", "d"}, "b": {"c"}, "c": set(), "d": set()}
