"""A recipe: which part sits in which station, from its text to a built training.

Reading a recipe's text needs no PyTorch; it is loaded with the first name of this package that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sooner.recipe._recipe import Recipe
    from sooner.recipe.create import create_optimizer
    from sooner.recipe.explained import explain
    from sooner.recipe.slots import Slot, slot

__all__ = ["Recipe", "Slot", "create_optimizer", "explain", "slot"]

_HOMES = {"Recipe": "_recipe", "Slot": "slots", "slot": "slots", "explain": "explained", "create_optimizer": "create"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"sooner.recipe.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'sooner.recipe' has no attribute {name!r}")
