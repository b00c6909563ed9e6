"""The rule that AdamP and SGDP share: where the weights' scale is idle, take the part along them out of the update.

    with rows w_i of the weight, g_i of the gradient and p_i of the proposed update, D the length of a row:
    if max_i |cos(g_i, w_i)| < delta / sqrt(D):
        p_i <- p_i - w_i <w_i, p_i> / (||w_i|| + eps)^2   and   decay <- wd_ratio * decay

Rows are first the output channels; if they do not pass the test, the whole weight as one row; if that does not pass
either, or if the parameter has fewer than two dimensions, update and decay stay as they are.

Heo et al., 2020, arXiv 2006.08217, section 3 and algorithms 1 and 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from sooner.part import check_range
from sooner.transform import Clock, Reduction, Scope, State


@dataclass(frozen=True)
class RadialProjection(Reduction):
    """Projects the update that a subclass proposes, and adds the decay.

    Attributes:
        eps: added to the norm of a row, and least norm in the test.
        delta: how far from orthogonal gradient and weights may be, as a multiple of ``1 / sqrt(D)``.
        weight_decay: multiple of the parameters that is added to the update.
        wd_ratio: factor on `weight_decay` where the update is projected.
    """

    eps: float
    delta: float
    weight_decay: float
    wd_ratio: float
    over: ClassVar[Scope] = "row"
    reads_theta: ClassVar[bool] = True

    def propose(self, gradient: Tensor, state: State, clock: Clock) -> tuple[Tensor, State]:
        """Return the update before its projection and the new state, element by element."""
        raise TypeError(f"{type(self).__name__} defines no propose")

    def prepare(
        self, u: Tensor, state: State, theta: Tensor | None, clock: Clock
    ) -> tuple[Tensor, State, tuple[Tensor, ...]]:
        """Propose the update; add up what the test and the projection need: gw, gg, ww and pw."""
        proposed, after = self.propose(u, state, clock)
        return proposed, after, (u * theta, u * u, theta * theta, proposed * theta)  # type: ignore[operator]

    def decide(
        self, sums: tuple[Tensor, ...], memory: State, shape: tuple[int, ...], clock: Clock
    ) -> tuple[tuple[Tensor, ...], State]:
        """For every row, the multiple of the parameters to add: decay less what lies along them."""
        plain = torch.full_like(sums[0], self.weight_decay)  # [n, rows]
        if len(shape) < 2:
            return (plain,), memory
        by_channel, add_by_channel = self._view(sums, math.prod(shape[1:]))
        whole = tuple(one.sum(1, keepdim=True) for one in sums)
        by_layer, add_by_layer = self._view(whole, math.prod(shape))
        return (torch.where(by_channel, add_by_channel, torch.where(by_layer, add_by_layer, plain)),), memory

    def _view(self, sums: tuple[Tensor, ...], length: int) -> tuple[Tensor, Tensor]:
        """Return for rows of this length whether all pass the test ``[n, 1]`` and what to add if so ``[n, rows]``."""
        along, gradients, weights, proposed = sums
        norm = weights.sqrt()
        cosine = along.abs() / (gradients.sqrt().clamp(min=self.eps) * norm.clamp(min=self.eps))
        passed = (cosine < self.delta / math.sqrt(max(length, 1))).all(1, keepdim=True)
        return passed, self.wd_ratio * self.weight_decay - proposed / (norm + self.eps) ** 2

    def finish(self, u: Tensor, theta: Tensor | None, numbers: tuple[Tensor, ...], clock: Clock) -> Tensor:
        """Add that multiple."""
        return u + numbers[0] * theta  # type: ignore[operator]


def check_projection(part: str, group: Mapping[str, Any]) -> None:
    """Refuse hyper-parameters of the projection that are out of range.

    Raises:
        SoonerError: ``delta`` or ``wd_ratio`` of the group is not allowed.
    """
    check_range(part, "delta", group["delta"], 0.0, math.inf)
    check_range(part, "wd_ratio", group["wd_ratio"], 0.0, 1.0)
