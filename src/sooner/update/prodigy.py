"""Prodigy: Adam that finds its own learning rate, from how far the weights have come along their gradients.

    r <- b3 r + (d / d0) d lr <g, theta_0 - theta>,   s <- b3 s + (d / d0) d lr g,   over all parameters together
    m <- b1 m + (1 - b1) d g,   v <- b2 v + (1 - b2) (d g)^2
    theta <- theta - d lr * ( m / (sqrt(v) + d eps) + weight_decay * theta )
    d <- max(d, d_coef * r / ||s||_1),   b3 = sqrt(b2)

d, one number for the whole model, is a lower bound of the distance from the start to a minimum; it starts tiny and
grows to the right order of magnitude within a few dozen steps. `lr` stays 1 and is what schedules change. What is kept
of theta_0 is theta - theta_0, the sum of all steps: the first ones are so small that weights lose them in rounding.

Use it when nobody has tuned the learning rate of Adam for this model, and one number for the whole model will do.

Leave it when memory is short, when steps are few, for d needs some to grow, or when a tuned rate is known.

It costs four numbers of state per weight, twice Adam's, and three for the model; two passes per step, with two sums
between them; nothing on the wire but those of sharded parameters.

Mishchenko and Defazio, 2023, arXiv 2306.06101, algorithm 4; `growth_rate`, bias correction and safeguard as in the
authors' repository, konstmish/prodigy, which takes the new d in d eps where the paper and we take the old one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from sooner.error import SoonerError
from sooner.part import check_range
from sooner.space import Knob, Log
from sooner.transform import Chain, Clock, Descend, Reduction, Scope, State, chain, sqrt
from sooner.update._optimizer import ChainOptimizer
from sooner.update._options import Options
from sooner.update.adamw import check_adam


@dataclass(frozen=True)
class FindDistance(Reduction):
    """Adam's direction times d, and the sums that say what d is next. The memory keeps 0 for a d that is d0 still."""

    betas: tuple[float, float, float]
    eps: float
    weight_decay: float
    d0: float
    d_coef: float
    growth_rate: float
    bias_correction: bool
    safeguard_warmup: bool
    over: ClassVar[Scope] = "model"
    slots: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq", "weighted_sum", "moved")
    memory: ClassVar[tuple[str, ...]] = ("distance", "farthest", "progress")
    recalls: ClassVar[tuple[str, ...]] = ("distance",)

    @property
    def reads_theta(self) -> bool:  # type: ignore[override]
        """Whether there is decay."""
        return bool(self.weight_decay)

    def recall(self, memory: State, clock: Clock) -> State:
        """Return d, 0-d."""
        return {"distance": self._distance(memory)}

    def prepare(
        self, u: Tensor, state: State, theta: Tensor | None, clock: Clock
    ) -> tuple[Tensor, State, tuple[Tensor, ...]]:
        """Return the direction, the new averages, and what to add up of ``<g, theta_0 - theta>`` and ``|s|``."""
        beta1, beta2, beta3 = self.betas
        d = state["distance"]
        correction = sqrt(1 - beta2**clock.step) / (1 - beta1**clock.step) if self.bias_correction else 1.0
        rate = clock.learning_rate * correction
        scaled = d * u
        mean = beta1 * state["exp_avg"] + (1 - beta1) * scaled
        square = beta2 * state["exp_avg_sq"] + (1 - beta2) * scaled * scaled
        weight = d / self.d0 if self.safeguard_warmup else rate * d / self.d0
        total = beta3 * state["weighted_sum"] + weight * scaled
        direction = mean / (square.sqrt() + d * self.eps)
        if self.weight_decay:
            direction = direction + self.weight_decay * theta  # type: ignore[operator]
        way = d * correction * direction
        moved = state["moved"] - clock.learning_rate * way
        after = {"exp_avg": mean, "exp_avg_sq": square, "weighted_sum": total, "moved": moved}
        return way, after, (-rate * u * state["moved"], total.abs())

    def decide(
        self, sums: tuple[Tensor, ...], memory: State, shape: tuple[int, ...], clock: Clock
    ) -> tuple[tuple[Tensor, ...], State]:
        """Return nothing but the new memory."""
        along, size = sums
        d = self._distance(memory)
        progress = self.betas[2] * memory["progress"] + d / self.d0 * d * along
        found = torch.where(size == 0, 0.0, self.d_coef * progress / size)
        fresh = torch.where(memory["distance"] == 0, torch.maximum(d, found), d)  # the first growth is not bounded
        farthest = torch.maximum(memory["farthest"].clamp(min=self.d0), found)
        after = torch.minimum(farthest, fresh * self.growth_rate)
        kept = torch.where(after <= self.d0, 0.0, after)
        return (), {"distance": kept, "farthest": farthest, "progress": progress}

    def finish(self, u: Tensor, theta: Tensor | None, numbers: tuple[Tensor, ...], clock: Clock) -> Tensor:
        """Leave it as it is."""
        return u

    def _distance(self, memory: State) -> Tensor:
        return torch.where(memory["distance"] == 0, self.d0, memory["distance"])


class Prodigy(ChainOptimizer):
    """Adam without a learning rate, with decoupled weight decay; the step of ``prodigyopt.Prodigy``.

    A gradient that is not finite would spoil d for the rest of the run: see `non_finite`.

    Args:
        params: a model, its parameters or parameter groups (one d is found for all groups).
        lr: what d is multiplied by, default 1; leave it to schedules.
        betas: decay rates of the two moments, each in [0, 1), default (0.9, 0.999).
        beta3: decay rate of the sums, in [0, 1), default None for the root of ``betas[1]``.
        eps: times d added to the root of the second moment, default 1e-8.
        weight_decay: decoupled weight decay (multiplied by d and lr), default 0.
        d0: the first d, default 1e-6; smaller than the distance to any minimum.
        d_coef: what the estimate is multiplied by, default 1. If anything is tuned, it is this.
        growth_rate: by how much d may grow in a step, at least 1, default infinite; 1.02 is a kind of warm-up.
        bias_correction: correct the moments as Adam does, default False.
        safeguard_warmup: leave `lr` out of s, so that a warm-up of it does not make d too large, default False.
        **options: see `sooner.update._options.Options`.

    Of several groups, `beta3`, `d0`, `d_coef` and `growth_rate` of the first count for d.

    Raises:
        SoonerError: a hyper-parameter outside its range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"d_coef": Log(0.1, 10.0)}

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        beta3: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        d0: float = 1e-6,
        d_coef: float = 1.0,
        growth_rate: float = math.inf,
        bias_correction: bool = False,
        safeguard_warmup: bool = False,
        **options: Unpack[Options],
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "beta3": beta3, "eps": eps, "weight_decay": weight_decay}
        distance = {"d0": d0, "d_coef": d_coef, "growth_rate": growth_rate}
        switches = {"bias_correction": bias_correction, "safeguard_warmup": safeguard_warmup}
        super().__init__(params, {**defaults, **distance, **switches}, **options)

    @classmethod
    def check(cls, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters out of range."""
        super().check(group)
        check_adam("prodigy", group)
        if group["beta3"] is not None:
            check_range("prodigy", "beta3", group["beta3"], 0.0, 1.0, open_high=True)
        for name in ("d0", "d_coef"):
            check_range("prodigy", name, group[name], 0.0, math.inf)
            if group[name] == 0:
                raise SoonerError(f"prodigy: {name}={group[name]!r} would never move anything; choose a number above 0")
        if group["growth_rate"] != math.inf:
            check_range("prodigy", "growth_rate", group["growth_rate"], 1.0, math.inf)

    @property
    def distance(self) -> Tensor:
        """The d of the next step, 0-d, for logging; nothing waits for the device."""
        first = float(self.param_groups[0]["d0"])
        known = (state["distance"] for state in self.state.values() if "distance" in state)
        found = next(known, None)
        return torch.tensor(first, dtype=torch.float64) if found is None else torch.where(found == 0, first, found)

    def rule(self, group: dict[str, Any]) -> Chain:
        """``find the distance | descend``."""
        beta1, beta2 = group["betas"]
        beta3 = math.sqrt(beta2) if group["beta3"] is None else group["beta3"]
        adam = (beta1, beta2, beta3), group["eps"], group["weight_decay"]
        distance = group["d0"], group["d_coef"], float(group["growth_rate"])
        return chain(FindDistance(*adam, *distance, group["bias_correction"], group["safeguard_warmup"]), Descend())
