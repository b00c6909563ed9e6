"""Lion: move every weight by the same amount, by the sign of its momentum after one more share of the new gradient.

    u = sign(b1 m + (1 - b1) g),   theta <- theta - lr * (u + weight_decay * theta),   m <- b2 m + (1 - b2) g

The average that is kept forgets more slowly (b2 = 0.99) than the one whose sign is taken (b1 = 0.9), so the newest
gradient weighs ten times as much in the step as in the memory. With b1 = b2 it is sign descent with momentum.

Use it when batches are large or memory is short: it keeps half of what AdamW keeps.

Leave it when batches are small: the sign of noise moves a weight as far as the sign of a slope.

Coming from AdamW, divide the learning rate by three to ten, and multiply the weight decay by the same number.

It costs one number of state per weight; one pass per step; nothing on the wire.

Where the published equations leave something open: the sign of 0 is 0, so a weight whose gradients were all zero only
decays; the sign of NaN is NaN, so that a run which has lost its gradients does not go on as if nothing had happened.

Chen et al., 2023, arXiv 2302.06675, algorithm 2; advice on both settings of the authors' repository, google/automl.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from sooner.part import check_range
from sooner.space import Knob, Log
from sooner.transform import Chain, Clock, Descend, State, Transform, chain, decay
from sooner.update._betas import check_betas
from sooner.update._optimizer import ChainOptimizer
from sooner.update._options import Options


@dataclass(frozen=True)
class SignOfLookahead(Transform):
    """The sign of the momentum mixed with the gradient at one rate; the momentum itself is kept at another."""

    betas: tuple[float, float]
    slots: ClassVar[tuple[str, ...]] = ("exp_avg",)

    def rule(self, u: Tensor, state: State, theta: Tensor | None, clock: Clock) -> tuple[Tensor, State]:
        """Return the sign, from the old momentum, and the new momentum; all ``[D]``."""
        beta1, beta2 = self.betas
        momentum = state["exp_avg"]
        mixed = beta1 * momentum + (1 - beta1) * u
        direction = torch.where(mixed == mixed, mixed.sign(), mixed)  # torch's sign of NaN is 0
        return direction, {"exp_avg": beta2 * momentum + (1 - beta2) * u}


class Lion(ChainOptimizer):
    """Lion with decoupled weight decay.

    Args:
        params: a model, its parameters or parameter groups.
        lr: how far every weight moves in one step, default 1e-4.
        betas: share of the old momentum in the sign that is stepped by, and in the momentum that is kept, each in
            [0, 1), default (0.9, 0.99). The authors use (0.95, 0.98) where training is unstable.
        weight_decay: decoupled weight decay (multiplied by lr), default 0.
        **options: see `sooner.update._options.Options`.

    Raises:
        SoonerError: a hyper-parameter outside its range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(3e-5, 1e-2)}

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay}, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_betas(cls.name(), group["betas"], 2, "both decay rates, as (0.9, 0.99)")
        check_range(cls.name(), "weight_decay", group["weight_decay"], 0.0, math.inf)

    def rule(self, group: dict[str, Any]) -> Chain:
        """``sign of lookahead | decay | descend``."""
        return chain(SignOfLookahead(tuple(group["betas"])), decay(group["weight_decay"]), Descend())
