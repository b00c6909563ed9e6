"""How a network begins: initialisers and other changes to a model before it is trained.

Classes load on first use: ``sooner.model.Orthogonal(model)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sooner.model.orthogonal import Orthogonal

__all__ = ["Orthogonal"]


def __getattr__(name: str) -> Any:
    from sooner.part import class_named

    return class_named("model", name)
