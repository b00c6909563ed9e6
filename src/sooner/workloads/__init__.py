"""The bundled tasks: each file here is one task, a pure function of its seed that needs no download.

This module lists and describes them without importing torch, so that the command line starts fast.
"""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from sooner.error import SoonerError, nearest

if TYPE_CHECKING:
    from sooner.task import Task

_FOLDER = Path(__file__).parent

HELD_BACK = ("finetune", "grammar", "shapes")
"""Tasks on which no default or range of a part was ever chosen, and none may be: what holds there was not fitted to
them."""


def names() -> list[str]:
    """Return the names of the bundled tasks, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.py") if not path.stem.startswith("_"))


def summary(name: str) -> str:
    """Return the first sentence of the docstring of the task `name`, read without importing it.

    Raises:
        SoonerError: no bundled task has this name.
    """
    _check(name)
    docstring = ast.get_docstring(ast.parse((_FOLDER / f"{name}.py").read_text(encoding="utf-8"))) or ""
    return re.split(r"(?<=[.!?])\s", " ".join(docstring.split()), maxsplit=1)[0]


def load(name: str) -> ModuleType:
    """Import and return the module of the task `name` (this imports torch).

    Raises:
        SoonerError: no bundled task has this name.
    """
    _check(name)
    return importlib.import_module(f"{__name__}.{name}")


def find(spec: str) -> Task:
    """Return the task that `spec` names: a bundled one, or the path of a Python file that defines one (imports torch).

    Raises:
        SoonerError: no such workload or file, or the file defines no task.
    """
    from sooner import task

    if spec.endswith(".py") or "/" in spec:
        return task.from_file(Path(spec))
    return task.from_module(load(spec), spec)


def _check(name: str) -> None:
    known = names()
    if name not in known:
        raise SoonerError(
            f"unknown workload {name!r}{nearest(name, known)}; the bundled ones are {', '.join(known)}, "
            "and a task of your own is named by the path of its file, such as ./my_task.py."
        )
