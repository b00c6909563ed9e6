"""How weights move: optimizers, each a `torch.optim.Optimizer` written as a chain of rules.

Classes load on first use, so importing this package is cheap: ``sooner.update.Muon(model)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sooner.update.adabelief import AdaBelief
    from sooner.update.adamw import AdamW
    from sooner.update.muon import Muon
    from sooner.update.normalized_gd import NormalizedGD
    from sooner.update.sgd import SGD

__all__ = ["SGD", "AdaBelief", "AdamW", "Muon", "NormalizedGD"]


def __getattr__(name: str) -> Any:
    from sooner.part import class_named

    return class_named("update", name)
