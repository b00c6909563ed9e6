"""AdEMAMix: Adam with a second momentum that remembers tens of thousands of gradients, added to the quick one.

    m <- b1 m + (1 - b1) g,   s <- b3(t) s + (1 - b3(t)) g,   v <- b2 v + (1 - b2) g^2
    theta <- theta - lr * ( (m / (1 - b1^t) + alpha(t) s) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay * theta )
    alpha(t) = alpha min(t / T, 1);   1 / ln b3(t) = (1 - t / T) / ln b1 + (t / T) / ln b3,  and b3 from T on

The slow momentum s has no bias correction. A large weight on it from the first step on makes training diverge, so
alpha grows linearly, and the half-life of s with it, over the first T steps.

Use it when training is long: with b3 = 0.9999 the slow momentum has a half-life of 7,000 steps.

Leave it when a run has fewer steps than that; or take b3 = 0.999.

It costs three numbers of state per weight, one more than Adam; one pass per step; nothing on the wire.

Pagliardini et al., 2024, arXiv 2409.03137, algorithm 1; the schedules as in section 3 and in the authors' repository,
apple/ml-ademamix.
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
class TwoMomenta(Transform):
    """The direction of AdEMAMix: a quick and a slow average of gradients over the root of that of their squares."""

    betas: tuple[float, float, float]
    alpha: float
    eps: float
    alpha_warmup: int
    beta3_warmup: int
    slots: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_slow", "exp_avg_sq")

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Return the direction and the new averages; all ``[D]``."""
        beta1, beta2, beta3 = self.betas
        alpha = self.alpha
        if self.alpha_warmup and clock.step < self.alpha_warmup:
            alpha = self.alpha * (clock.step / self.alpha_warmup)
        if self.beta3_warmup and clock.step < self.beta3_warmup:
            beta3 = warmed(beta1, beta3, clock.step / self.beta3_warmup)
        quick = beta1 * state["exp_avg"] + (1 - beta1) * u
        slow = beta3 * state["exp_avg_slow"] + (1 - beta3) * u
        square = beta2 * state["exp_avg_sq"] + (1 - beta2) * u * u
        root = square.sqrt() * (1 / sqrt(1 - beta2**clock.step)) + self.eps
        direction = (quick * (1 / (1 - beta1**clock.step)) + alpha * slow) / root
        return direction, {"exp_avg": quick, "exp_avg_slow": slow, "exp_avg_sq": square}


def warmed(start: float, end: float, share: float) -> float:
    """Return the decay rate after this share, in (0, 1], of the warm-up: its half-life grows linearly."""
    inverse = (1 - share) * _inverse_log(start) + share * _inverse_log(end)
    return math.exp(1 / inverse) if inverse else 0.0


def _inverse_log(beta: float) -> float:
    """Return 1 / ln(beta), and its limit for 0."""
    return 1 / math.log(beta) if beta else 0.0


class AdEMAMix(ChainOptimizer):
    """AdEMAMix with decoupled weight decay.

    Args:
        params: a model, its parameters or parameter groups.
        lr: learning rate, default 1e-3.
        betas: decay rates of the quick momentum, the second moment and the slow momentum, each in [0, 1), default
            (0.9, 0.999, 0.9999).
        alpha: weight of the slow momentum, at least 0, default 5; the paper takes 4 to 10. With 0 it is AdamW.
        eps: added to the root of the second moment, default 1e-8.
        weight_decay: decoupled weight decay (multiplied by lr), default 0.
        alpha_warmup: steps over which alpha grows from 0, default 0 for none. The paper takes all steps of the run.
        beta3_warmup: steps over which the slow decay rate grows from the quick one, default 0 for none. As above.
        **options: see `sooner.update._options.Options`.

    Raises:
        SoonerError: a hyper-parameter outside its range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(1e-4, 3e-2)}

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
        alpha: float = 5.0,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        alpha_warmup: int = 0,
        beta3_warmup: int = 0,
        **options: Unpack[Options],
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "alpha": alpha, "eps": eps, "weight_decay": weight_decay}
        warmups = {"alpha_warmup": alpha_warmup, "beta3_warmup": beta3_warmup}
        super().__init__(params, {**defaults, **warmups}, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        what = "the decay rates of the quick momentum, the second moment and the slow momentum, as (0.9, 0.999, 0.9999)"
        check_betas(cls.name(), group["betas"], 3, what)
        for name in ("alpha", "eps", "weight_decay"):
            check_range(cls.name(), name, group[name], 0.0, math.inf)
        for name in ("alpha_warmup", "beta3_warmup"):
            check_range(cls.name(), name, group[name], 0, math.inf, whole=True)

    def rule(self, group: dict[str, Any]) -> Chain:
        """``two momenta | decay | descend``."""
        momenta = TwoMomenta(
            tuple(group["betas"]), group["alpha"], group["eps"], group["alpha_warmup"], group["beta3_warmup"]
        )
        return chain(momenta, decay(group["weight_decay"]), Descend())
