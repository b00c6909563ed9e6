"""SGD-SaI: momentum SGD with a learning rate per tensor that is fixed once, from the noise of its first gradient.

    s = ||G|| / (std(G) + eps)            per tensor, from its first gradient that is not zero, then frozen
    m_1 = G_1,   m_t = momentum * m_{t-1} + (1 - momentum) * G_t
    theta <- theta - lr * (s * m_t + weight_decay * theta)

s^2 = n - 1 + n mean(G)^2 / var(G) for a tensor of n entries: with a gradient of zero mean the rule is a learning rate
in proportion to sqrt(n).

Where the published equations leave something open: a single entry has no spread, so s = 1. The gradient is measured at
its tensor's steps 1, 2, 4, 8, ... only, until one is not zero, so that no other step reads memory once more; before
that, s = sqrt(n). A first gradient whose entries are all equal leaves only eps in the denominator, as published.

Use it when memory for Adam is not there and a fine-tuning run starts from good weights.

Leave it when a Transformer is trained from scratch for few steps: early progress is slow.

It costs one number of state per weight and one per tensor; one pass per step; nothing on the wire.

Xu et al., 2024, arXiv 2412.11768.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from sooner.error import SoonerError, nearest
from sooner.part import check_range
from sooner.space import Knob, Log
from sooner.transform import Chain, Clock, Descend, Reduction, Scope, State, chain, decay
from sooner.update._optimizer import ChainOptimizer
from sooner.update._options import Options

SCALINGS = ("gsnr", "sqrt_numel", "none")


@dataclass(frozen=True)
class ScaledMomentum(Reduction):
    """Averaged momentum times the tensor's scale; the memory holds the measured scale, 0 until there is one."""

    momentum: float
    eps: float
    scaling: str
    over: ClassVar[Scope] = "parameter"
    slots: ClassVar[tuple[str, ...]] = ("momentum_buffer",)
    memory: ClassVar[tuple[str, ...]] = ("scale",)

    def prepare(
        self, u: Tensor, state: State, theta: Tensor | None, clock: Clock
    ) -> tuple[Tensor, State, tuple[Tensor, ...]]:
        """Average the gradient; at steps that measure, add up the gradient and its square."""
        first = clock.step == 1
        buffer = u if first else self.momentum * state["momentum_buffer"] + (1 - self.momentum) * u
        measures = self.scaling == "gsnr" and clock.step & (clock.step - 1) == 0  # a power of two
        return buffer, {"momentum_buffer": buffer}, (u, u * u) if measures else ()

    def decide(
        self, sums: tuple[Tensor, ...], memory: State, shape: tuple[int, ...], clock: Clock
    ) -> tuple[tuple[Tensor, ...], State]:
        """Freeze the scale where it can be measured for the first time."""
        scale = memory["scale"]  # [n]
        count = math.prod(shape)
        if self.scaling != "gsnr":
            return (torch.full_like(scale, 1.0 if self.scaling == "none" else math.sqrt(count)),), memory
        if sums and count > 1:
            scale = torch.where(scale > 0, scale, self._measure(sums[0], sums[1], count))
        return (torch.where(scale > 0, scale, math.sqrt(count)),), {"scale": scale}

    def _measure(self, total: Tensor, squares: Tensor, count: int) -> Tensor:
        """Return norm over standard deviation, and 0 where the gradient is zero or not finite."""
        variance = (squares - total * total / count).clamp(min=0) / (count - 1)
        ratio = squares.sqrt() / (variance.sqrt() + self.eps)
        return torch.where(ratio.isfinite(), ratio, 0.0)

    def finish(self, u: Tensor, theta: Tensor | None, numbers: tuple[Tensor, ...], clock: Clock) -> Tensor:
        """Multiply by the scale."""
        return u * numbers[0]


class SGDSaI(ChainOptimizer):
    """SGD with learning rates scaled at initialisation, averaged momentum and decoupled weight decay.

    Args:
        params: a model, its parameters or parameter groups.
        lr: learning rate, default 0.01; a tensor of n entries steps with about ``lr * sqrt(n)``.
        momentum: in [0, 1), default 0.9; the average weighs the new gradient with ``1 - momentum``.
        eps: added to the standard deviation, default 1e-8.
        weight_decay: decoupled weight decay (multiplied by lr, not by the scale), default 0.01.
        scaling: "gsnr" as published (default); for ablation "sqrt_numel" (the root of the number of entries) or "none".
        **options: see `sooner.update._options.Options`.

    Raises:
        SoonerError: a hyper-parameter outside its range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"lr": Log(1e-4, 3e-1)}

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 0.01,
        momentum: float = 0.9,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        scaling: str = "gsnr",
        **options: Unpack[Options],
    ) -> None:
        defaults = {"momentum": momentum, "eps": eps, "weight_decay": weight_decay, "scaling": scaling}
        super().__init__(params, {"lr": lr, **defaults}, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_range("sgd_sai", "momentum", group["momentum"], 0.0, 1.0, open_high=True)
        check_range("sgd_sai", "eps", group["eps"], 0.0, math.inf)
        check_range("sgd_sai", "weight_decay", group["weight_decay"], 0.0, math.inf)
        if group["scaling"] not in SCALINGS:
            raise SoonerError(
                f"sgd_sai: scaling={group['scaling']!r}{nearest(str(group['scaling']), SCALINGS)} is not one of "
                f"{', '.join(SCALINGS)}; choose one of them"
            )

    def rule(self, group: dict[str, Any]) -> Chain:
        """``scaled momentum | decay | descend``."""
        scaled = ScaledMomentum(group["momentum"], group["eps"], group["scaling"])
        return chain(scaled, decay(group["weight_decay"]), Descend())
