"""MARS: AdamW of gradients that are corrected by how they changed since the last step, to cancel part of their noise.

    c = g + gamma b1 / (1 - b1) (g - the gradient of the step before),   the first c is g
    c <- c / ||c|| where ||c|| > max_norm = 1, the norm over a parameter
    m <- b1 m + (1 - b1) c,   v <- b2 v + (1 - b2) c^2
    theta <- theta - lr * ( m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay * theta )

Vectors and single numbers, such as gains and biases, get AdamW unless `optimize_1d` is set. This is MARS-AdamW in its
approximate form: the gradient of the step before is that of its own batch, so that none is computed twice.

Use it when batches are large, so that the change of a gradient is more than noise, and AdamW is the alternative.

Leave it when memory is short, or batches are small.

It costs three numbers of state per weight, one more than Adam; two passes per step, as for clipping; nothing on the
wire.

Yuan et al., 2024, arXiv 2411.10438, MARS-AdamW; defaults and what vectors get as in the authors' repository,
AGI-Arena/MARS, which takes the gradient before the first one for 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from sooner.part import check_range
from sooner.space import Knob, Log
from sooner.transform import Chain, Clock, Descend, Reduction, Scope, State, chain, decay
from sooner.update._betas import check_betas
from sooner.update._optimizer import ChainOptimizer
from sooner.update._options import Options
from sooner.update._roles import Divided
from sooner.update.adamw import AdamMoments, check_adam


@dataclass(frozen=True)
class Corrected(Reduction):
    """The gradient and a multiple of its change, no longer than a limit in every parameter."""

    correction: float
    max_norm: float
    over: ClassVar[Scope] = "parameter"
    slots: ClassVar[tuple[str, ...]] = ("previous_grad",)

    def prepare(
        self, u: Tensor, state: State, theta: Tensor | None, clock: Clock
    ) -> tuple[Tensor, State, tuple[Tensor, ...]]:
        """Correct the gradient, keep it, and add up the squares of what came out."""
        known = 0.0 if clock.step == 1 else 1.0  # there is no change before the second gradient
        corrected = u + (known * self.correction) * (u - state["previous_grad"])
        return corrected, {"previous_grad": u}, (corrected * corrected,)

    def decide(
        self, sums: tuple[Tensor, ...], memory: State, shape: tuple[int, ...], clock: Clock
    ) -> tuple[tuple[Tensor, ...], State]:
        """The limit over the norm where that is larger; a norm that is NaN leaves the rest of the parameter alone."""
        norm = sums[0].sqrt()
        return (torch.where(norm > self.max_norm, self.max_norm / norm, 1.0),), memory

    def finish(self, u: Tensor, theta: Tensor | None, numbers: tuple[Tensor, ...], clock: Clock) -> Tensor:
        """Shorten."""
        return u * numbers[0]


class MARS(ChainOptimizer):
    """MARS-AdamW, approximate form, with decoupled weight decay.

    Args:
        params: a model, its parameters or parameter groups.
        lr: learning rate, default 3e-3.
        betas: decay rates of the two moments, each in [0, 1), default (0.95, 0.99).
        eps: added to the root of the second moment, default 1e-8.
        weight_decay: decoupled weight decay (multiplied by lr), default 0.
        gamma: how much of the change of the gradient is added, in multiples of ``betas[0] / (1 - betas[0])``, at least
            0, default 0.025; 0 is AdamW with clipping by parameter.
        max_norm: to which the corrected gradient of every parameter is clipped, at least 0, default 1.
        optimize_1d: step parameters with fewer than two dimensions like the others, default False: with AdamW.
        lr_1d_factor: AdamW's learning rate over `lr`, at least 0, default 1.
        betas_1d: AdamW's decay rates, default (0.9, 0.95).
        **options: see `sooner.update._options.Options`. ``cautious=True`` keeps of a step what agrees with the
            corrected gradient.

    Raises:
        SoonerError: a hyper-parameter outside its range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(3e-4, 1e-1)}

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 3e-3,
        betas: tuple[float, float] = (0.95, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        gamma: float = 0.025,
        max_norm: float = 1.0,
        optimize_1d: bool = False,
        lr_1d_factor: float = 1.0,
        betas_1d: tuple[float, float] = (0.9, 0.95),
        **options: Unpack[Options],
    ) -> None:
        adam = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        own = {"gamma": gamma, "max_norm": max_norm}
        vectors = {"optimize_1d": optimize_1d, "lr_1d_factor": lr_1d_factor, "betas_1d": betas_1d}
        super().__init__(params, {**adam, **own, **vectors}, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_adam(cls.name(), group)
        for name in ("gamma", "max_norm", "lr_1d_factor"):
            check_range(cls.name(), name, group[name], 0.0, math.inf)
        check_betas(cls.name(), group["betas_1d"], 2, "AdamW's decay rates, as (0.9, 0.95)", "betas_1d")

    def shares(self, group: dict[str, Any]) -> Sequence[tuple[list[Tensor], dict[str, Any]]]:
        """Divide a group into what MARS steps and vectors, which AdamW steps at a rate and decay rates of their own."""
        if group["optimize_1d"]:
            return super().shares(group)
        rest = {"lr": group["lr_1d_factor"] * group["lr"], "betas": group["betas_1d"]}
        both: Divided = [
            ([p for p in group["params"] if p.ndim >= 2], {"corrected": True}),
            ([p for p in group["params"] if p.ndim < 2], {"corrected": False, **rest}),
        ]
        if group["decay"] == "matrices":
            both = [one for some, own in both for one in self.roles.split_by_decay(some, own, self.param_groups)]
        return [(some, {**group, **own}) for some, own in both if some]

    def rule(self, group: dict[str, Any]) -> Chain:
        """``corrected gradient | moments | decay | descend``; vectors: without the first."""
        beta1 = group["betas"][0]
        mine = group.get("corrected", True)
        corrected = Corrected(group["gamma"] * beta1 / (1 - beta1), group["max_norm"]) if mine else None
        moments = AdamMoments(group["betas"], group["eps"])
        return chain(corrected, moments, decay(group["weight_decay"]), Descend())

    def rule_name(self, p: Tensor, settings: dict[str, Any]) -> str:
        """Return what steps a parameter, for `explain`."""
        return self.name() if settings.get("corrected", True) else "adamw"
