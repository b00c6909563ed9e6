"""EF21 with momentum (EF21-SGDM): the estimates follow a running mean of each worker's gradients, which is less noisy.

    m_i <- beta m_i + (1 - beta) g_i,   c_i = C(m_i - h_i),   h_i <- h_i + c_i,   g = (1 / n) sum_i h_i

Use it when workers have different data and gradients are noisy, which is to say in most training.

Leave it when the optimizer behind it has a momentum of its own that was tuned without this one: both add up.

It costs three numbers of state per weight, and nothing on the wire but the first, dense exchange; no pass.

Fatkhullin, Tyurin and Richtarik, 2023, arXiv 2305.15155, algorithm 1; m starts at the first gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sooner.communication._codec import Buffers, Moment
from sooner.communication.ef21 import EF21
from sooner.part import check_range
from sooner.space import Choice, Knob


@dataclass(frozen=True)
class EF21Momentum(EF21):
    """EF21 on running means of gradients.

    Args:
        momentum: share of the mean that stays, in [0, 1), default 0.9.

    Raises:
        SoonerError: a value out of range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"momentum": Choice(0.8, 0.9, 0.95)}
    slots: ClassVar[tuple[str, ...]] = ("estimate", "momentum")
    momentum: float = 0.9

    def __post_init__(self) -> None:
        check_range("ef21_momentum", "momentum", self.momentum, 0.0, 1.0, open_high=True)

    def outgoing(self, g: Tensor, state: Buffers, moment: Moment) -> Tensor:
        """Return ``m - h``."""
        state["momentum"] = g.clone() if moment.step == 1 else g.lerp(state["momentum"], self.momentum)
        return state["momentum"] - state["estimate"]
