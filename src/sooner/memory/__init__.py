"""What is not kept, or not waited for: state in few bits, gradients freed at once, checkpoints written meanwhile.

Classes load on first use: ``sooner.memory.LazySaver(optimizer)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sooner.memory.gradient_release import GradientRelease
    from sooner.memory.lazy_saver import LazySaver
    from sooner.memory.low_bit_state import LowBitState

__all__ = ["GradientRelease", "LazySaver", "LowBitState"]


def __getattr__(name: str) -> Any:
    from sooner.part import class_named

    return class_named("memory", name)
