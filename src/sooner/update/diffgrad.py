"""diffGrad: Adam that moves an entry up to half as far where its gradient has hardly changed since the last step.

    m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2,   xi = sigmoid(|g_{t-1} - g_t|)  in [1/2, 1),   g_0 = 0
    theta <- theta - lr * sqrt(1 - b2^t) / (1 - b1^t) * xi * m / (sqrt(v) + eps)

The gradient g holds the coupled (L2) decay, if there is any, and so does the one that is kept for the next step. The
rule depends on the size of the gradients: where they are much smaller than 1, as in most networks, xi is 1/2 and this
is Adam at half the learning rate. Undo any scaling of the loss before the step.

Use it when you want to reproduce work that used it.

Leave it when speed is the aim: where gradients are small it is Adam at half the learning rate, at more memory.

It costs three numbers of state per weight; one pass per step; nothing on the wire.

Dubey et al., 2019, arXiv 1909.11015; eps beside the uncorrected root and the copy of the last gradient as in the
corrected version of the authors' code (the first one kept a reference, so that its difference was always zero).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

from torch import Tensor

from sooner.space import Knob, Log
from sooner.transform import Chain, Clock, Descend, State, Transform, chain, decay, sqrt
from sooner.update._optimizer import ChainOptimizer
from sooner.update._options import Options
from sooner.update.adamw import check_adam


@dataclass(frozen=True)
class FrictionMoments(Transform):
    """Adam's direction times the friction of every entry; the friction is not stored in the moment."""

    betas: tuple[float, float]
    eps: float
    slots: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq", "previous_grad")

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Return the direction, the new moments and the gradient, to be compared with the next one."""
        beta1, beta2 = self.betas
        mean = beta1 * state["exp_avg"] + (1 - beta1) * u
        square = beta2 * state["exp_avg_sq"] + (1 - beta2) * u * u
        friction = (state["previous_grad"] - u).abs().sigmoid()
        correction = sqrt(1 - beta2**clock.step) / (1 - beta1**clock.step)
        direction = correction * friction * mean / (square.sqrt() + self.eps)
        return direction, {"exp_avg": mean, "exp_avg_sq": square, "previous_grad": u}


class DiffGrad(ChainOptimizer):
    """diffGrad; compare it with Adam at half the learning rate.

    Args:
        params: a model, its parameters or parameter groups.
        lr: learning rate, default 1e-3.
        betas: decay rates of the two moments, each in [0, 1), default (0.9, 0.999).
        eps: added to the root of the second moment before its bias is corrected, default 1e-8.
        weight_decay: L2 coefficient added to the gradient, default 0.
        decoupled: apply `weight_decay` beside the moments instead (multiplied by lr, as AdamW), default False.
        **options: see `sooner.update._options.Options`.

    Raises:
        SoonerError: a hyper-parameter outside its range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(6e-4, 2e-1)}

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled: bool = False,
        **options: Unpack[Options],
    ) -> None:
        defaults = {"betas": betas, "eps": eps, "weight_decay": weight_decay, "decoupled": decoupled}
        super().__init__(params, {"lr": lr, **defaults}, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_adam("diffgrad", group)

    def rule(self, group: dict[str, Any]) -> Chain:
        """``decay | moments | descend``; decoupled, ``moments | decay | descend``."""
        moments = FrictionMoments(group["betas"], group["eps"])
        pull = decay(group["weight_decay"])
        rules = (moments, pull) if group["decoupled"] else (pull, moments)
        return chain(*rules, Descend())
