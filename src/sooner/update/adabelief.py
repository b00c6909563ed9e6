"""AdaBelief: like Adam, but divides by how far gradients stray from their mean, so a steady gradient takes long steps.

    m <- b1 m + (1 - b1) g,   s <- b2 s + (1 - b2) (g - m)^2 + eps          (m is the new one; eps accumulates inside s)
    theta <- theta - lr * ( (m / (1 - b1^t)) / (sqrt(s / (1 - b2^t)) + eps) + weight_decay * theta )
    rectified, with rho_t = rho_inf - 2 t b2^t / (1 - b2^t) and rho_inf = 2 / (1 - b2) - 1:
        rho_t >= 5:  theta <- theta - lr * r_t * m / (sqrt(s) + eps);  else  theta <- theta - lr * m / (1 - b1^t)

Use it when gradients are steady in places, or as a drop-in for Adam where tuning of `eps` is affordable.

Leave it when gradients are clipped by value before it: the variance of what is left is nearly nothing.

It costs two numbers of state per weight, as Adam; one pass per step; nothing on the wire.

Zhuang et al., 2020, arXiv 2010.07468, algorithm 2; rectification of Liu et al., 2019, arXiv 1908.03265, as the authors'
package applies it.
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
class Belief(Transform):
    """The direction of AdaBelief; `rectify` adds RAdam's warm-up factor."""

    betas: tuple[float, float]
    eps: float
    rectify: bool
    slots: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_var")

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Return the direction and the new moments."""
        beta1, beta2 = self.betas
        mean = beta1 * state["exp_avg"] + (1 - beta1) * u
        surprise = u - mean
        variance = beta2 * state["exp_avg_var"] + (1 - beta2) * surprise * surprise + self.eps
        correction1, correction2 = 1 - beta1**clock.step, 1 - beta2**clock.step
        if not self.rectify:
            root = variance.sqrt() * (1 / sqrt(correction2)) + self.eps
            direction = mean * (1 / correction1) / root
        elif (factor := _rectification(beta2, clock.step)) is not None:
            direction = factor * sqrt(correction2) / correction1 * mean / (variance.sqrt() + self.eps)
        else:
            direction = mean / correction1
        return direction, {"exp_avg": mean, "exp_avg_var": variance}


def _rectification(beta2: float, step: int) -> Any:
    """Return RAdam's factor, or None while the variance estimate rests on too few steps (rho < 5)."""
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * step * beta2**step / (1 - beta2**step)
    if length < 5:
        return None
    return sqrt((length - 4) / (longest - 4) * (length - 2) / length * longest / (longest - 2))


class AdaBelief(ChainOptimizer):
    """AdaBelief with decoupled weight decay.

    Args:
        params: a model, its parameters or parameter groups.
        lr: learning rate, default 1e-3.
        betas: decay rates of the two moments, each in [0, 1), default (0.9, 0.999).
        eps: added inside the second moment at every step and once outside its root, default 1e-16. The authors
            recommend 1e-8 for convolutional networks and about the square of Adam's eps elsewhere.
        weight_decay: decoupled weight decay (multiplied by lr), default 0.
        rectify: RAdam's warm-up of the second moment, default True as in the authors' package since version 0.1.
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
        eps: float = 1e-16,
        weight_decay: float = 0.0,
        rectify: bool = True,
        **options: Unpack[Options],
    ) -> None:
        defaults = {"betas": betas, "eps": eps, "weight_decay": weight_decay, "rectify": rectify}
        super().__init__(params, {"lr": lr, **defaults}, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_adam("adabelief", group)

    def rule(self, group: dict[str, Any]) -> Chain:
        """``belief | decay | descend``."""
        belief = Belief(group["betas"], group["eps"], group["rectify"])
        return chain(belief, decay(group["weight_decay"]), Descend())
