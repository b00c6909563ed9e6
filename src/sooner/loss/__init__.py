"""What is minimised: losses called like those of `torch.nn`.

Classes load on first use: ``sooner.loss.StableMax()(logits, targets)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sooner.loss.stablemax import StableMax

__all__ = ["StableMax"]


def __getattr__(name: str) -> Any:
    from sooner.part import class_named

    return class_named("loss", name)
