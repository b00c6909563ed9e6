"""How far each step goes: learning-rate schedules, each an `LRScheduler` of PyTorch that knows the number of steps.

Classes load on first use: ``sooner.schedule.Cosine(optimizer, steps=1000)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sooner.schedule.constant import Constant
    from sooner.schedule.cosine import Cosine
    from sooner.schedule.linear import Linear
    from sooner.schedule.warmup_stable_decay import WarmupStableDecay

__all__ = ["Constant", "Cosine", "Linear", "WarmupStableDecay"]


def __getattr__(name: str) -> Any:
    from sooner.part import class_named

    return class_named("schedule", name)
