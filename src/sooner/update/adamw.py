"""AdamW: a running mean of gradients over the root of a running mean of their squares, with weight decay apart from it.

    m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2
    theta <- theta - lr * ( (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay * theta )

Use it when in doubt: it is the baseline that every other optimizer here is measured against.

Leave it when memory for two numbers per weight is not there (`apollo`, `sgd_sai`), or matrices dominate (`muon`).

It costs two numbers of state per weight; one pass per step; nothing on the wire.

Kingma and Ba, 2014, arXiv 1412.6980; Loshchilov and Hutter, 2017, arXiv 1711.05101.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

from torch import Tensor

from sooner.part import check_range
from sooner.space import Knob, Log
from sooner.transform import Chain, Clock, Descend, State, Transform, chain, decay, sqrt
from sooner.update._betas import check_betas
from sooner.update._optimizer import ChainOptimizer
from sooner.update._options import Options


@dataclass(frozen=True)
class AdamMoments(Transform):
    """Adam's direction: the bias-corrected first moment over the root of the second, eps outside the root."""

    betas: tuple[float, float]
    eps: float
    slots: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Return the normalised direction and the new moments."""
        beta1, beta2 = self.betas
        mean = beta1 * state["exp_avg"] + (1 - beta1) * u
        square = beta2 * state["exp_avg_sq"] + (1 - beta2) * u * u
        # one division per element: the corrections are numbers, so their reciprocals are taken once
        root = square.sqrt() * (1 / sqrt(1 - beta2**clock.step)) + self.eps
        return mean * (1 / (1 - beta1**clock.step)) / root, {"exp_avg": mean, "exp_avg_sq": square}


def check_adam(part: str, group: Mapping[str, Any]) -> None:
    """Refuse hyper-parameters of the Adam family that are out of range.

    Raises:
        SoonerError: ``betas``, ``eps`` or ``weight_decay`` of the group is not allowed.
    """
    check_betas(part, group["betas"], 2, "the decay rates of both moments, as (0.9, 0.999)")
    check_range(part, "eps", group["eps"], 0.0, math.inf)
    check_range(part, "weight_decay", group["weight_decay"], 0.0, math.inf)


class AdamW(ChainOptimizer):
    """Adam with decoupled weight decay; the step of `torch.optim.AdamW`.

    Args:
        params: a model, its parameters or parameter groups.
        lr: learning rate, default 1e-3.
        betas: decay rates of the two moments, each in [0, 1), default (0.9, 0.999).
        eps: added to the root of the second moment, default 1e-8.
        weight_decay: decoupled weight decay (multiplied by lr), default 0.01.
        **options: see `sooner.update._options.Options`.

    Raises:
        SoonerError: a hyper-parameter outside its range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(3e-4, 1e-1)}

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        **options: Unpack[Options],
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_adam("adamw", group)

    def rule(self, group: dict[str, Any]) -> Chain:
        """``moments | decay | descend``."""
        return chain(AdamMoments(group["betas"], group["eps"]), decay(group["weight_decay"]), Descend())
