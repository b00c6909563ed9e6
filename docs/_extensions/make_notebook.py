"""Makes docs/notebook.ipynb from docs/notebook.md and executes it: `python docs/_extensions/make_notebook.py`."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1]
PAGE, NOTEBOOK = DOCS / "notebook.md", DOCS / "notebook.ipynb"
BLOCK = re.compile(r"^```python\n(.*?)^```\n", re.DOTALL | re.MULTILINE)


def cells(text: str) -> list[tuple[str, str]]:
    """Return the kind ("markdown" or "code") and the text of every cell of a page."""
    pieces = [("code" if i % 2 else "markdown", piece.strip()) for i, piece in enumerate(BLOCK.split(text))]
    return [(kind, piece) for kind, piece in pieces if piece]


def made(text: str) -> Any:
    """Return the notebook of a page, not executed."""
    import nbformat.v4 as v4

    notebook = v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    for number, (kind, piece) in enumerate(cells(text)):
        new = v4.new_code_cell if kind == "code" else v4.new_markdown_cell
        notebook.cells.append(new(piece, id=f"cell-{number}"))
    return notebook


def execute(notebook: Any, folder: Path) -> Any:
    """Execute a notebook in a folder, in place, and return it.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised an exception.
    """
    from nbclient import NotebookClient

    resources = {"metadata": {"path": str(folder)}}
    return NotebookClient(notebook, timeout=None, record_timing=False, resources=resources).execute()


def main() -> None:
    """Make, execute and write it."""
    import nbformat

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        notebook = execute(made(PAGE.read_text(encoding="utf-8")), Path(folder))
    notebook.metadata.pop("language_info", None)
    NOTEBOOK.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
