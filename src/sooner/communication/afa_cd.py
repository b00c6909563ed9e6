"""AFA-CD: the server takes whatever work comes back, however old and however much, each worth the same per step.

    worker i, from x_s of an older round s:   G_i = (x_s - y_K) / K_i,   after K_i steps of its own choice
    x <- x - r * (1 / m) sum_i G_i over the m that have come back,   r in steps, by default the mean of their K_i

Use it when workers are free to come, go and do as little as they like (`anarchic`), and there are many of them.

Leave it when the same few come back all the time: the others' data is then never learnt, see `afa_cs`.

It costs a model up per round on the wire, from those that take part; no state but weights of some rounds at the server;
no pass.

Yang et al., 2021, arXiv 2108.09875. Their G_i is a mean of gradients, the server's learning rate eta times it; measured
in local steps r = eta / eta_L, so that it fits any optimizer of the workers. Without the division by K_i fast workers
would count more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sooner.communication._outer import Outer, Window
from sooner.part import check_range
from sooner.space import Choice, Knob


@dataclass(frozen=True)
class AFACD(Outer):
    """Steps along the mean of what has come back.

    Args:
        every: optimizer steps that a worker takes at most, default 10.
        server_steps: r, how many of a worker's mean steps the server takes; None for the mean of what they took.

    Raises:
        SoonerError: a value out of range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"every": Choice(5, 10, 20, 50)}
    takes_stale: ClassVar[bool] = True
    every: int = 10
    server_steps: float | None = None

    def __post_init__(self) -> None:
        self.check_every()
        if self.server_steps is not None:
            check_range(self.name(), "server_steps", self.server_steps, 0.0, math.inf)

    def rate(self, window: Window) -> float | Tensor:
        """Return the server's r in this round."""
        if self.server_steps is not None:
            return self.server_steps
        return self.every if window.taken is None else window.taken.to(window.fast).mean()

    def step(self, window: Window) -> Tensor:
        """``x - r mean G``."""
        backwards = window.exchange(window.weighted(mean_steps(window, self.every)), window.active)
        return window.common - self.rate(window) * backwards


def mean_steps(window: Window, every: int) -> Tensor:
    """Return the workers' mean steps backwards (..., d), from where each of them started."""
    way = (window.slow if window.started is None else window.started) - window.fast
    return way / every if window.taken is None else way / window.taken.to(way)[:, None]
