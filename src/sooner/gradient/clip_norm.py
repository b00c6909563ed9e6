"""Clipping by the global norm: where the gradient of the whole model is longer than allowed, shorten it, not turn it.

    g <- g * min(1, max_norm / (||g|| + 1e-6)),   ||g|| over all parameters of all optimizers together

Use it when single batches with huge gradients throw training off.

Leave it when the norm is always above the limit: then it is normalized descent with another name.

It costs a sum over all gradients per step; no state; nothing on the wire.

Pascanu, Mikolov and Bengio, 2013, arXiv 1211.5063; conventions of `torch.nn.utils.clip_grad_norm_`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.optim import Optimizer

from sooner.gradient._gradient import GradientPart
from sooner.part import check_range
from sooner.space import Knob, Log
from sooner.transform import Clock, Rescale, State


@dataclass(frozen=True)
class ShortenGlobally(Rescale):
    """Scales all gradients by one number, at most 1, so that their common norm is at most `max_norm`."""

    max_norm: float

    def decide(
        self, sums: tuple[Tensor, ...], memory: State, shape: tuple[int, ...], clock: Clock
    ) -> tuple[tuple[Tensor, ...], State]:
        """``min(1, max_norm / (norm + 1e-6))``; not a number where the norm is none, as in PyTorch."""
        return ((self.max_norm / (sums[0].sqrt() + 1e-6)).clamp(max=1.0),), memory


class ClipNorm(GradientPart):
    """Clipping of the gradients by their global Euclidean norm.

    Gradients with infinite or undefined entries stay so (or become undefined), as in PyTorch; to leave out such steps
    use ``non_finite="skip"`` of the optimizer.

    Args:
        optimizer: one optimizer or a list of them; one norm is taken over all.
        max_norm: largest norm, in the gradients' units, default 1.

    Raises:
        SoonerError: `max_norm` is negative or not finite.
    """

    owns = frozenset({"gradient norm"})
    order: ClassVar[int] = 60  # after the parts that change directions or single entries
    space: ClassVar[Mapping[str, Knob]] = {"max_norm": Log(0.03, 10.0)}

    def __init__(self, optimizer: Optimizer | Sequence[Optimizer], max_norm: float = 1.0) -> None:
        check_range("clip_norm", "max_norm", max_norm, 0.0, math.inf)
        super().__init__(optimizer, ShortenGlobally(max_norm))
