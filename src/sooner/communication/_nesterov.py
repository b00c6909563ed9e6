"""The outer optimizer of DiLoCo and its kin: Nesterov's momentum in the form of torch.optim.SGD."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sooner.communication._codec import Buffers
from sooner.communication._outer import Outer
from sooner.part import check_range
from sooner.space import Choice, Knob, Uniform


@dataclass(frozen=True)
class Nesterov(Outer):
    """Hyper-parameters and the step itself."""

    space: ClassVar[Mapping[str, Knob]] = {"every": Choice(10, 20, 50), "lr": Uniform(0.3, 1.0)}
    every: int = 50
    lr: float = 0.7
    momentum: float = 0.9

    def __post_init__(self) -> None:
        self.check_every()
        check_range(self.name(), "lr", self.lr, 0, math.inf)
        check_range(self.name(), "momentum", self.momentum, 0, 1, open_high=True)

    def stepped(self, slow: Tensor, g: Tensor, state: Buffers, slot: str) -> Tensor:
        """Return the weights after a step by ``g``, and put the new momentum into the slot."""
        before = state.get(slot)
        state[slot] = momentum = g.clone() if before is None else before * self.momentum + g
        return slow.add(g.add(momentum, alpha=self.momentum), alpha=-self.lr)
