"""How far each step goes, when, and on how much: learning-rate schedules and what ties the rate to the batch size.

The schedules are `LRScheduler`s of PyTorch that know the number of steps. Classes load on first use:
``sooner.schedule.Cosine(optimizer, steps=1000)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sooner.schedule.adadagrad import AdAdaGrad
    from sooner.schedule.batch_scaling import BatchScaling
    from sooner.schedule.constant import Constant
    from sooner.schedule.cosine import Cosine
    from sooner.schedule.linear import Linear
    from sooner.schedule.refined import Refined
    from sooner.schedule.uba import UBA
    from sooner.schedule.warmup_stable_decay import WarmupStableDecay

__all__ = ["UBA", "AdAdaGrad", "BatchScaling", "Constant", "Cosine", "Linear", "Refined", "WarmupStableDecay"]


def __getattr__(name: str) -> Any:
    from sooner.part import class_named

    return class_named("schedule", name)
