"""No file of the package imports another in a circle, in functions and for type checkers neither."""

import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
sys.path.append(str(CHECKOUT / "docs" / "_extensions"))

import import_graph  # noqa: E402


def test_no_file_imports_another_in_a_circle():
    assert [" -> ".join(circle) for circle in import_graph.circles(import_graph.graph())] == []


def package(folder, **files):
    for name, text in files.items():
        path = folder / "toy" / f"{name.replace('__', '/') if name != '__init__' else name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return import_graph.graph(folder, "toy")


def test_imports_in_functions_for_types_relative_and_of_packages_count(tmp_path):
    made = package(
        tmp_path,
        __init__="",
        a="from toy import b\n",
        b="def late():\n    import toy.c\n",
        c="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .deep.d import Name\n",
        deep__d="from .. import e as other, __name__\nfrom . import missing\n",
        e="import os, torch.nn\n",
    )
    assert made == {
        "toy": set(),
        "toy.a": {"toy.b"},
        "toy.b": {"toy.c"},
        "toy.c": {"toy.deep.d"},
        "toy.deep.d": {"toy.e", "toy"},
        "toy.e": set(),
    }


def test_a_circle_is_told_as_the_way_around_it():
    assert import_graph.circles({"a": {"b", "d"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [["a", "b", "c", "a"]]
    two = {"a": {"b"}, "b": {"a"}, "c": {"d", "a"}, "d": {"c"}, "e": {"c"}}
    assert import_graph.circles(two) == [["a", "b", "a"], ["c", "d", "c"]]
    assert import_graph.circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
