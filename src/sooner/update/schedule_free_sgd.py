"""Schedule-Free SGD: in place of momentum and a schedule, gradients are taken near the average of all iterates.

    z <- z - lr * (g + weight_decay * y),   x <- (1 - c) x + c z,   y <- (1 - beta) z + beta x,   g: the gradient at y
    c = w_t / (w_1 + ... + w_t),   w_t = t^power * (highest lr so far)^2

The weights in training are y. What is evaluated is the average x, inside `view()`; races and recipes do so by
themselves. With beta = 0 it is descent whose iterates are averaged and nothing else (Polyak's average).

Use it when the number of steps is not known beforehand, and SGD with momentum would do.

Leave it when nobody can see to `view()`, as where other code evaluates and saves the weights that it finds.

It costs one number of state per weight, as momentum; one pass per step; nothing on the wire; one more copy of the
weights while it is evaluated.

Defazio et al., 2024, arXiv 2405.15682, equations 3 to 5; warm-up, decay, power and weights of the average as in the
authors' repository, facebookresearch/schedule_free.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

from torch import Tensor

from sooner.part import check_range
from sooner.space import Knob, Log
from sooner.transform import Chain, chain, decay
from sooner.update._options import Options
from sooner.update._schedule_free import ScheduleFree


class ScheduleFreeSGD(ScheduleFree):
    """SGD that needs no schedule; the step of ``schedulefree.SGDScheduleFree``, whose `momentum` is beta.

    Args:
        params: a model, its parameters or parameter groups.
        lr: learning rate, default 1; best values are about 10 times those of SGD with momentum 0.9 and a schedule.
        beta: share of the average in the weights in training, in [0, 1), default 0.9.
        weight_decay: coefficient of the weights in training, added to the gradient, default 0.
        warmup: steps over which the learning rate rises linearly, default 0.
        power: later steps count by this power of their number, default 0: all alike.
        rate_power: and by this power of the highest learning rate so far, default 2.
        **options: see `sooner.update._options.Options`.

    Raises:
        SoonerError: a hyper-parameter outside its range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(1e-2, 3e1)}

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1.0,
        beta: float = 0.9,
        weight_decay: float = 0.0,
        warmup: int = 0,
        power: float = 0.0,
        rate_power: float = 2.0,
        **options: Unpack[Options],
    ) -> None:
        defaults = {"lr": lr, "beta": beta, "weight_decay": weight_decay}
        average = {"warmup": warmup, "power": power, "rate_power": rate_power}
        super().__init__(params, {**defaults, **average}, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_range(cls.name(), "beta", group["beta"], 0.0, 1.0, open_high=True)

    def rule(self, group: dict[str, Any]) -> Chain:
        """``decay | towards average``."""
        return chain(decay(group["weight_decay"]), self.towards_average(group, group["beta"]))
