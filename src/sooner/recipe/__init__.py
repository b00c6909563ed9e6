"""A recipe: which part sits in which station, from its text to a built training.

Reading a recipe's text needs no PyTorch; it is loaded with the first name of this package that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sooner.recipe._recipe import Recipe, Slot, create_optimizer, explain, slot

__all__ = ["Recipe", "Slot", "create_optimizer", "explain", "slot"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("sooner.recipe._recipe"), name)
    raise AttributeError(f"module 'sooner.recipe' has no attribute {name!r}")
