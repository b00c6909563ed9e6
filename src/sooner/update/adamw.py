"""AdamW: divide a running mean of gradients by the root of a running mean of their squares, and decay weights apart from that.

    m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2
    theta <- theta - lr * ( (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay * theta )

Kingma and Ba, 2014, arXiv 1412.6980; Loshchilov and Hutter, 2017, arXiv 1711.05101.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from sooner.part import check_range
from sooner.space import Log
from sooner.transform import Chain, Clock, Decay, Descend, State, Transform, chain
from sooner.update._optimizer import ChainOptimizer


@dataclass(frozen=True)
class AdamMoments(Transform):
    """Adam's direction: bias-corrected first moment over the root of the bias-corrected second, eps outside the root."""

    betas: tuple[float, float]
    eps: float
    slots: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Return the normalised direction and the new moments."""
        beta1, beta2 = self.betas
        mean = beta1 * state["exp_avg"] + (1 - beta1) * u
        square = beta2 * state["exp_avg_sq"] + (1 - beta2) * u * u
        root = square.sqrt() / math.sqrt(1 - beta2**clock.step) + self.eps
        return mean / (1 - beta1**clock.step) / root, {"exp_avg": mean, "exp_avg_sq": square}


def check_adam(part: str, betas: tuple[float, float], eps: float, weight_decay: float) -> None:
    """Refuse hyper-parameters of the Adam family that are out of range."""
    for i, beta in enumerate(betas):
        check_range(part, f"betas[{i}]", beta, 0.0, 1.0, open_high=True)
    check_range(part, "eps", eps, 0.0, math.inf)
    check_range(part, "weight_decay", weight_decay, 0.0, math.inf)


class AdamW(ChainOptimizer):
    """Adam with decoupled weight decay; the step of `torch.optim.AdamW`.

    Args:
        params: a model, its parameters or parameter groups.
        lr: learning rate, default 1e-3.
        betas: decay rates of the two moments, each in [0, 1), default (0.9, 0.999).
        eps: added to the root of the second moment, default 1e-8.
        weight_decay: decoupled weight decay (multiplied by lr), default 0.01.
        maximize: ascend instead of descend.

    Raises:
        SoonerError: a hyper-parameter outside its range.
    """

    space = {"lr": Log(3e-4, 3e-2)}

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        *,
        maximize: bool = False,
    ) -> None:
        check_adam("adamw", betas, eps, weight_decay)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}, maximize=maximize)

    def rule(self, group: dict[str, Any]) -> Chain:
        """``moments | decay | descend``."""
        return chain(AdamMoments(group["betas"], group["eps"]), Decay(group["weight_decay"]), Descend())
