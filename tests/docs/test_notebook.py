"""docs/notebook.ipynb: the page's cells, executed; and executed again here, in a kernel of its own."""

import json
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
sys.path.append(str(DOCS / "_extensions"))

import make_notebook  # noqa: E402

KEPT = json.loads(make_notebook.NOTEBOOK.read_text(encoding="utf-8"))


def text(value):
    return value if isinstance(value, str) else "".join(value)


def outputs(notebook):
    """By code cell, what kinds of things it gave, and all text among them."""
    kinds, said = [], ""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            kinds.append([sorted(one.get("data", {one.get("name", "error"): ""})) for one in cell["outputs"]])
            said += "".join(
                text(v) for one in cell["outputs"] for v in [*one.get("data", {}).values(), one.get("text", "")]
            )
    return kinds, said


def test_the_notebook_holds_the_cells_of_the_page_and_what_they_gave():
    page = make_notebook.cells(make_notebook.PAGE.read_text(encoding="utf-8"))
    assert [(cell["cell_type"], text(cell["source"])) for cell in KEPT["cells"]] == page, (
        "run python docs/_extensions/make_notebook.py"
    )
    numbers = [cell["execution_count"] for cell in KEPT["cells"] if cell["cell_type"] == "code"]
    assert numbers == list(range(1, len(numbers) + 1))
    kinds, said = outputs(KEPT)
    assert ["error"] not in [kind for some in kinds for kind in some]
    assert "Race on sines" in said
    assert "<table" in said


def test_it_runs_and_shows_the_same_kinds_of_things(tmp_path, monkeypatch):
    for package in ("nbclient", "nbformat", "ipykernel", "cloudpickle", "pandas"):
        pytest.importorskip(package)
    monkeypatch.setenv("PYTHONPATH", str(DOCS.parent / "src"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    ran = make_notebook.execute(make_notebook.made(make_notebook.PAGE.read_text(encoding="utf-8")), tmp_path)
    assert outputs(ran)[0] == outputs(KEPT)[0]
    assert "Race on sines" in outputs(ran)[1]
    (folder,) = (tmp_path / "races").iterdir()
    assert (folder / "report.html").is_file()
