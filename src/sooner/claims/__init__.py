"""One executable claim per part, named after it: the paper's headline, the smallest honest experiment, a verdict.

This module lists and finds claims without importing torch, so that the command line starts fast.
"""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from sooner import part
from sooner.error import SoonerError, nearest

if TYPE_CHECKING:
    from sooner.claims._claim import Claim


@functools.cache
def names() -> list[str]:
    """Return the names of the parts that have a claim, sorted (nothing is imported)."""
    return sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py"))


def load(name: str) -> Claim:
    """Import and return the claim of the part `name`.

    Raises:
        SoonerError: no claim has that name; the nearest known name is suggested.
    """
    if name not in names():
        if name in part.names():
            raise SoonerError(f"the part {name} has no claim yet; `sooner claim` lists those that have one")
        raise SoonerError(f"there is no claim named {name!r}{nearest(name, names())}; `sooner claim` lists all of them")
    found: Claim = importlib.import_module(f"sooner.claims.{name}").CLAIM
    return found
