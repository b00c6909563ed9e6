"""Adan: Adam whose momentum looks ahead by the change of the gradient, so that no second gradient is needed for it.

    d = g - (the gradient of the step before; the first d is 0)
    m <- b1 m + (1 - b1) g,   c <- b2 c + (1 - b2) d,   n <- b3 n + (1 - b3) (g + b2 d)^2
    u = (m / (1 - b1^t) + b2 c / (1 - b2^t)) / (sqrt(n / (1 - b3^t)) + eps)
    theta <- (theta - lr * u) / (1 + lr * weight_decay)
    not proximal:  theta <- theta - lr * (u + weight_decay * theta)

Here b is the share that is kept, as in Adam and in the authors' code; the paper writes 1 - b.

Use it when learning rates are to be larger than Adam bears; the paper takes five to ten times as large ones.

Leave it when memory is short, or batches are small: the change of the gradient is then mostly noise.

It costs four numbers of state per weight, twice Adam's; one pass per step; nothing on the wire.

Xie et al., 2022, arXiv 2208.06677, algorithm 1; the bias corrections and the first change, 0, as in the authors'
repository, sail-sg/Adan. A restart of the state (the paper's optional condition) is left out.
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
class ChangeMoments(Transform):
    """The direction of Adan: averages of gradients and of their changes, over the root of one of squares."""

    betas: tuple[float, float, float]
    eps: float
    slots: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_diff", "exp_avg_sq", "previous_grad")

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Return the direction, the new averages and the gradient; all ``[D]``."""
        beta1, beta2, beta3 = self.betas
        known = 0.0 if clock.step == 1 else 1.0  # there is no change before the second gradient
        change = known * (u - state["previous_grad"])
        mean = beta1 * state["exp_avg"] + (1 - beta1) * u
        drift = beta2 * state["exp_avg_diff"] + (1 - beta2) * change
        ahead = u + beta2 * change
        square = beta3 * state["exp_avg_sq"] + (1 - beta3) * ahead * ahead
        root = square.sqrt() * (1 / sqrt(1 - beta3**clock.step)) + self.eps
        direction = (mean * (1 / (1 - beta1**clock.step)) + drift * (beta2 / (1 - beta2**clock.step))) / root
        return direction, {"exp_avg": mean, "exp_avg_diff": drift, "exp_avg_sq": square, "previous_grad": u}


@dataclass(frozen=True)
class Proximal(Transform):
    """Makes a decayed step the proximal one: divides it by ``1 + learning_rate * weight_decay``."""

    weight_decay: float

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """``u / (1 + learning_rate * weight_decay)``."""
        return u * (1 / (1 + clock.learning_rate * self.weight_decay)), state


class Adan(ChainOptimizer):
    """Adan with its proximal weight decay.

    Args:
        params: a model, its parameters or parameter groups.
        lr: learning rate, default 1e-3.
        betas: shares kept by the averages of gradients, of their changes and of squares, each in [0, 1), default
            (0.98, 0.92, 0.99).
        eps: added to the root of the average of squares, default 1e-8.
        weight_decay: multiplied by lr, default 0. The authors use 0.02.
        proximal: divide by 1 + lr * weight_decay as in the paper (default), or take decay away as AdamW does.
        **options: see `sooner.update._options.Options`.

    Raises:
        SoonerError: a hyper-parameter outside its range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(3e-4, 1e-1)}

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        proximal: bool = True,
        **options: Unpack[Options],
    ) -> None:
        defaults = {"betas": betas, "eps": eps, "weight_decay": weight_decay, "proximal": proximal}
        super().__init__(params, {"lr": lr, **defaults}, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        what = "what the averages of gradients, changes and squares keep, as (0.98, 0.92, 0.99)"
        check_betas(cls.name(), group["betas"], 3, what)
        for name in ("eps", "weight_decay"):
            check_range(cls.name(), name, group[name], 0.0, math.inf)

    def rule(self, group: dict[str, Any]) -> Chain:
        """``change moments | decay | descend | proximal``."""
        weight_decay = group["weight_decay"]
        shrink = Proximal(weight_decay) if group["proximal"] and weight_decay else None
        return chain(ChangeMoments(tuple(group["betas"]), group["eps"]), decay(weight_decay), Descend(), shrink)
