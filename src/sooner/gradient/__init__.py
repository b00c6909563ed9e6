"""What is done to gradients before the weights move: clipping, projection, and other sources of gradients.

Classes load on first use: ``sooner.gradient.ClipNorm(optimizer, max_norm=1.0)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sooner.gradient.clip_adaptive import ClipAdaptive
    from sooner.gradient.clip_norm import ClipNorm
    from sooner.gradient.clip_value import ClipValue
    from sooner.gradient.cma_harmony import CMAHarmony
    from sooner.gradient.conadv import ConAdv
    from sooner.gradient.deepzero import DeepZero
    from sooner.gradient.perpgrad import PerpGrad

__all__ = ["CMAHarmony", "ClipAdaptive", "ClipNorm", "ClipValue", "ConAdv", "DeepZero", "PerpGrad"]


def __getattr__(name: str) -> Any:
    from sooner.part import class_named

    return class_named("gradient", name)
