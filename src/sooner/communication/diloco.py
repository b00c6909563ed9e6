"""DiLoCo: workers train on their own, and their mean movement is the gradient of a second, outer optimizer.

    every H steps:   g = (1 / n) sum_i (theta - theta_i),   m <- mu m + g
    theta_i = theta <- theta - lr (mu m + g)

Use it when a step waits for the network and workers see enough steps between two syncs (hundreds, in the paper).

Leave it when `snoo` does as well: outer momentum helps a single worker too, and what it adds is not communication's.

It costs 1 / H of a gradient per step on the wire, two numbers of state per weight; no pass.

Douillard et al., 2023, arXiv 2311.08105, algorithm 1; the outer optimizer is that of torch.optim.SGD with
nesterov=True.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sooner.communication._nesterov import Nesterov
from sooner.communication._outer import Window
from sooner.space import Knob


@dataclass(frozen=True)
class DiLoCo(Nesterov):
    """Nesterov's momentum on the mean movement of the workers.

    Args:
        every: optimizer steps between two outer steps, default 50.
        lr: of the outer optimizer, default 0.7.
        momentum: of the outer optimizer, in [0, 1), default 0.9.

    Raises:
        SoonerError: a value out of range.
    """

    space: ClassVar[Mapping[str, Knob]] = Nesterov.space
    slots: ClassVar[tuple[str, ...]] = ("momentum",)

    def step(self, window: Window) -> Tensor:
        """Take one outer step."""
        return self.stepped(window.common, window.backwards(), window.state, "momentum")
