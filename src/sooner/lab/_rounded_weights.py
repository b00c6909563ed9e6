"""Weights that are kept in bfloat16 without care: after every step they are rounded, and small updates are lost."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from sooner.part import Part, check_choice

_DROPPED = 16
"""Bits of a float32 that a bfloat16 lacks."""


class RoundedWeights(Part):
    """Rounds all trained weights to bfloat16 after every step; they stay float32 tensors.

    Args:
        model: whose float32 weights are rounded.
        how: "nearest" (default; an update below half of the spacing is lost) or "stochastic" (up or down with the
            probability that keeps the mean).

    Raises:
        SoonerError: another word.
    """

    station: ClassVar[str] = "weights"

    def __init__(self, model: nn.Module, how: str = "nearest") -> None:
        check_choice("RoundedWeights", "how", how, ("nearest", "stochastic"))
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.how = how

    @torch.no_grad()
    def after_step(self) -> None:
        """Round."""
        for p in self.parameters:
            p.copy_(p.bfloat16().float() if self.how == "nearest" else rounded_at_random(p))


def rounded_at_random(values: Tensor) -> Tensor:
    """Return float32 values rounded to bfloat16, up with the share of the spacing that lies below them."""
    bits = values.contiguous().view(torch.int32)
    noise = torch.randint_like(bits, 1 << _DROPPED)
    return ((bits + noise) & -(1 << _DROPPED)).view(torch.float32)
