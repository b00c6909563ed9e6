"""Local steps with periodic averaging: workers train on their own and average their weights now and then.

    every H steps:   theta_i <- (1 / n) sum_j theta_j

Use it when a step waits for the network: it sends H times less.

Leave it when H is so large that the workers drift apart.

It costs 1 / H of a gradient per step on the wire, and the weights at the start of the window; no pass.

Stich, 2018, arXiv 1805.09767; with clients that hold their own data it is FedAvg (McMahan et al., 2016, arXiv
1602.05629).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sooner.communication._outer import Outer, Window
from sooner.space import Choice, Knob


@dataclass(frozen=True)
class LocalSGD(Outer):
    """Averages the weights every `every` steps.

    Args:
        every: optimizer steps between two averages, default 10.
    """

    space: ClassVar[Mapping[str, Knob]] = {"every": Choice(5, 10, 20, 50)}
    every: int = 10

    def __post_init__(self) -> None:
        self.check_every()

    def step(self, window: Window) -> Tensor:
        """Move the common weights by the mean of what the workers did."""
        return window.common - window.backwards()
