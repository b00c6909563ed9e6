"""Schedule-Free AdamW: in place of momentum and a schedule, gradients are taken near the average of all iterates.

    v <- b2 v + (1 - b2) g^2,   u = g / (sqrt(v / (1 - b2^t)) + eps) + weight_decay * y,   g: the gradient at y
    z <- z - lr * u,   x <- (1 - c) x + c z,   y <- (1 - b1) z + b1 x
    c = w_t / (w_1 + ... + w_t),   w_t = t^power * (highest lr so far)^2

The weights in training are y. What is evaluated is the average x, inside `view()`; races and recipes do so by
themselves. A constant rate then ends where one that decays to zero would, at every step, so that nothing has to be
planned. The learning rate warms up by itself over `warmup` steps, which the average counts for as much less.

Use it when the number of steps is not known beforehand, or training may be stopped or prolonged at any time.

Leave it when nobody can see to `view()`, as where other code evaluates and saves the weights that it finds.

It costs two numbers of state per weight, as Adam; one pass per step; nothing on the wire; one more copy of the weights
while it is evaluated.

Defazio et al., 2024, arXiv 2405.15682, algorithm 1; bias correction, power and weights of the average as in the
authors' repository, facebookresearch/schedule_free.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

from torch import Tensor

from sooner.space import Knob, Log
from sooner.transform import Chain, Clock, State, Transform, chain, decay, sqrt
from sooner.update._options import Options
from sooner.update._schedule_free import ScheduleFree
from sooner.update.adamw import check_adam


@dataclass(frozen=True)
class Normalize(Transform):
    """The gradient over the root of the average of its square."""

    beta: float
    eps: float
    slots: ClassVar[tuple[str, ...]] = ("exp_avg_sq",)

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Return the normalised gradient and the new average; both ``[D]``."""
        square = self.beta * state["exp_avg_sq"] + (1 - self.beta) * u * u
        root = square.sqrt() * (1 / sqrt(1 - self.beta**clock.step)) + self.eps
        return u / root, {"exp_avg_sq": square}


class ScheduleFreeAdamW(ScheduleFree):
    """AdamW that needs no schedule; the step of ``schedulefree.AdamWScheduleFree``.

    Args:
        params: a model, its parameters or parameter groups.
        lr: learning rate, default 2.5e-3; best values are 1 to 10 times those of AdamW with a schedule.
        betas: share of the average in the weights in training, and decay rate of the second moment, each in [0, 1),
            default (0.9, 0.999). Long training takes (0.95, 0.999) or (0.98, 0.999).
        eps: added to the root of the second moment, default 1e-8.
        weight_decay: multiplied by lr, of the weights in training, default 0.
        warmup: steps over which the learning rate rises linearly, default 0.
        power: later steps count by this power of their number, default 0: all alike.
        rate_power: and by this power of the highest learning rate so far, default 2.
        **options: see `sooner.update._options.Options`.

    Raises:
        SoonerError: a hyper-parameter outside its range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(3e-4, 1e-1)}

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 2.5e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        warmup: int = 0,
        power: float = 0.0,
        rate_power: float = 2.0,
        **options: Unpack[Options],
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        average = {"warmup": warmup, "power": power, "rate_power": rate_power}
        super().__init__(params, {**defaults, **average}, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_adam(cls.name(), group)

    def rule(self, group: dict[str, Any]) -> Chain:
        """``normalize | decay | towards average``."""
        beta, of_squares = group["betas"]
        normalize = Normalize(of_squares, group["eps"])
        return chain(normalize, decay(group["weight_decay"]), self.towards_average(group, beta))
