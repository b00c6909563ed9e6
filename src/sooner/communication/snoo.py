"""SNOO: DiLoCo's outer optimizer without its local steps: training as usual with momentum over every so many steps.

    gradients are averaged before every step; every H steps:   g = theta - theta_H,   m <- mu m + g
    theta <- theta - lr (mu m + g)

Use it when a comparison with DiLoCo is to be fair: it tells what outer momentum does by itself.

Leave it when the network is slow: it saves no communication.

It costs a gradient per step on the wire, the outer step nothing; two numbers of state per weight; no pass.

Kallusky et al., 2025, arXiv 2510.15830. With one worker it is DiLoCo with one worker.
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
class SNOO(Nesterov):
    """Nesterov's momentum on the movement of workers that are all the same.

    Args:
        every: optimizer steps between two outer steps, default 50.
        lr: of the outer optimizer, default 0.7.
        momentum: of the outer optimizer, in [0, 1), default 0.9.

    Raises:
        SoonerError: a value out of range.
    """

    space: ClassVar[Mapping[str, Knob]] = Nesterov.space
    own_slots: ClassVar[tuple[str, ...]] = ("momentum",)
    averages_gradients: ClassVar[bool] = True

    def step(self, window: Window) -> Tensor:
        """Take one outer step, without a word to the others."""
        return self.stepped(window.slow, window.slow - window.fast, window.state, "momentum")

    def finish(self, window: Window) -> Tensor:
        """Return the weights as they are."""
        return window.fast if window.fast.ndim == 1 else window.fast[0]
