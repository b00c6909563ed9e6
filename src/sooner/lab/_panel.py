"""The truths by their names: listed and found without importing torch."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from sooner.error import SoonerError, nearest

if TYPE_CHECKING:
    from sooner.lab._truth import Truth


@functools.cache
def names() -> list[str]:
    """Return the names of the truths, sorted (nothing is imported)."""
    return sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py"))


def load(name: str) -> Truth:
    """Import and return the truth `name`.

    Raises:
        SoonerError: no truth has that name; the nearest known name is suggested.
    """
    if name not in names():
        raise SoonerError(f"there is no truth named {name!r}{nearest(name, names())}; `sooner lab --list` names them")
    found: Truth = importlib.import_module(f"sooner.lab.{name}").TRUTH
    return found
