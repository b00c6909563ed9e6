"""NAdamW: AdamW that looks one step ahead: the momentum of the next step, and the gradient of now beside it.

    m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2,   w_t = b1 (1 - 0.96^(t momentum_decay) / 2)
    d = w_(t+1) m / (1 - w_1 ... w_(t+1)) + (1 - w_t) g / (1 - w_1 ... w_t)
    theta <- theta - lr * ( d / (sqrt(v / (1 - b2^t)) + eps) + weight_decay * theta )

Use it when in doubt between AdamW and something newer: it costs the same, and is the baseline of AlgoPerf.

Leave it when gradients are much noisier than their mean: the share of the newest gradient is up to half of the step.

It costs two numbers of state per weight, as Adam; one pass per step; nothing on the wire.

Dozat, 2016, "Incorporating Nesterov Momentum into Adam", algorithm 2, with the warm-up of the momentum as
torch.optim.NAdam has it; weight decay of Loshchilov and Hutter, 2017, arXiv 1711.05101.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

from torch import Tensor

from sooner.part import check_range
from sooner.space import Knob, Log
from sooner.transform import Chain, Clock, Descend, State, Transform, chain, decay, sqrt
from sooner.update._optimizer import ChainOptimizer
from sooner.update._options import Options
from sooner.update.adamw import check_adam


@dataclass(frozen=True)
class NesterovMoments(Transform):
    """Adam's direction with the momentum of one step later."""

    betas: tuple[float, float]
    eps: float
    momentum_decay: float
    slots: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Return the direction and the new moments; all ``[D]``."""
        beta1, beta2 = self.betas
        of_mean, of_gradient = weights(beta1, self.momentum_decay, clock.step)
        mean = beta1 * state["exp_avg"] + (1 - beta1) * u
        square = beta2 * state["exp_avg_sq"] + (1 - beta2) * u * u
        root = square.sqrt() * (1 / sqrt(1 - beta2**clock.step)) + self.eps
        return (of_mean * mean + of_gradient * u) / root, {"exp_avg": mean, "exp_avg_sq": square}


@functools.lru_cache(maxsize=64)  # all rules of a step ask for the same
def weights(beta1: float, momentum_decay: float, step: int) -> tuple[float, float]:
    """Return what the mean and the gradient are multiplied by at this step.

    They depend on the step alone, so nothing is kept: the product is taken anew, as far as it differs from 0.
    """

    def momentum(t: int) -> float:
        return float(beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay)))

    product = 1.0
    for t in range(1, step + 1):
        product *= momentum(t)
        if product < 1e-20:  # far below the rounding of 1 - product
            break
    following = momentum(step + 1)
    return following / (1 - product * following), (1 - momentum(step)) / (1 - product)


class NAdamW(ChainOptimizer):
    """NAdam with decoupled weight decay; the step of ``torch.optim.NAdam(decoupled_weight_decay=True)``.

    Args:
        params: a model, its parameters or parameter groups.
        lr: learning rate, default 2e-3.
        betas: decay rates of the two moments, each in [0, 1), default (0.9, 0.999).
        eps: added to the root of the second moment, default 1e-8.
        weight_decay: decoupled weight decay (multiplied by lr), default 0.01.
        momentum_decay: how fast the momentum grows from half of ``betas[0]`` to it, at least 0, default 4e-3.
        **options: see `sooner.update._options.Options`.

    Raises:
        SoonerError: a hyper-parameter outside its range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(3e-4, 1e-1)}

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        momentum_decay: float = 4e-3,
        **options: Unpack[Options],
    ) -> None:
        defaults = {"betas": betas, "eps": eps, "weight_decay": weight_decay, "momentum_decay": momentum_decay}
        super().__init__(params, {"lr": lr, **defaults}, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_adam(cls.name(), group)
        check_range(cls.name(), "momentum_decay", group["momentum_decay"], 0.0, math.inf)

    def rule(self, group: dict[str, Any]) -> Chain:
        """``Nesterov moments | decay | descend``."""
        moments = NesterovMoments(tuple(group["betas"]), group["eps"], group["momentum_decay"])
        return chain(moments, decay(group["weight_decay"]), Descend())
