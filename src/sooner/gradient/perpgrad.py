"""perpGrad: take out of every gradient what only scales the weights, so that a net that fits cannot just shout louder.

    g_perp = g - (w.g / w.w) w,   g <- g_perp * ||g|| / ||g_perp||      for every parameter tensor, as one vector

Weight decay comes behind it, in the optimizer, so it is not projected out.

Use it when a network fits its training data and should generalise later, as in grokking.

Leave it when the scale of weights matters, as without normalization at a finite margin.

It costs a dot product per parameter and step; no state; nothing on the wire.

Prieto et al., 2025, arXiv 2501.04697, section 5 (released as OrthoGrad).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from sooner.gradient._gradient import GradientPart
from sooner.transform import Clock, Reduction, Scope, State

PARALLEL = 1e-6
"""Squared sine of the angle below which gradient and weights count as parallel: rounding would be scaled up."""


@dataclass(frozen=True)
class ProjectOffWeights(Reduction):
    """Projects the gradient of every parameter on the complement of the parameter and restores its norm."""

    over: ClassVar[Scope] = "parameter"
    reads_theta: ClassVar[bool] = True

    def prepare(
        self, u: Tensor, state: State, theta: Tensor | None, clock: Clock
    ) -> tuple[Tensor, State, tuple[Tensor, ...]]:
        """Add up the products ``w.g``, ``w.w`` and ``g.g``."""
        return u, state, (u * theta, theta * theta, u * u)  # type: ignore[operator]

    def decide(
        self, sums: tuple[Tensor, ...], memory: State, shape: tuple[int, ...], clock: Clock
    ) -> tuple[tuple[Tensor, ...], State]:
        """How much of the weights to take away, and the factor that restores the norm (0 for a parallel gradient)."""
        product, weight, gradient = sums
        share = product / (weight + 1e-30)
        left = (gradient - share * product).clamp(min=0.0)  # squared norm of what the projection leaves
        parallel = left <= PARALLEL * gradient
        return (share, torch.where(parallel, 0.0, (gradient / left).sqrt())), memory

    def finish(self, u: Tensor, theta: Tensor | None, numbers: tuple[Tensor, ...], clock: Clock) -> Tensor:
        """``(g - share * w) * factor``."""
        share, factor = numbers
        return (u - share * theta) * factor  # type: ignore[operator]


class PerpGrad(GradientPart):
    """Gradients orthogonal to the weights, tensor by tensor, with their norms kept.

    A gradient parallel to its weights (always so for parameters with a single entry) becomes zero.

    Args:
        optimizer: one optimizer or a list of them.
    """

    owns = frozenset({"gradient direction"})
    order: ClassVar[int] = 40  # before anything is clipped

    def __init__(self, optimizer: Optimizer | Sequence[Optimizer]) -> None:
        super().__init__(optimizer, ProjectOffWeights())
