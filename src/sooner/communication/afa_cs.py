"""AFA-CS: like AFA-CD, but the server keeps the last work of every worker, and steps along the mean of them all.

    G[i] <- (x_s - y_K) / K_i for the m that have come back,   x <- x - r * (1 / M') sum_i G[i]
    over the M' workers that have come back at least once

Use it when some workers with data of their own come back rarely: their last work stands in for them.

Leave it when there are many clients: their work of long ago is no work on the weights of now.

It costs a model up per round on the wire, from those that take part; a gradient per worker at the server; no pass.

Yang et al., 2021, arXiv 2108.09875; see `afa_cd` for r. Work on old weights is meant to stay as it is. Dividing by all
workers instead of M' would shorten the first steps, as long as the table is mostly zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sooner.communication._exchange import Exchange
from sooner.communication._outer import Window
from sooner.communication.afa_cd import AFACD, mean_steps


@dataclass(frozen=True)
class AFACS(AFACD):
    """Steps along the mean of everybody's last work.

    Args:
        every: optimizer steps that a worker takes at most, default 10.
        server_steps: r, how many of a worker's mean steps the server takes; None for the mean of what they took.

    Raises:
        SoonerError: a value out of range.
    """

    slots: ClassVar[tuple[str, ...]] = ("mean",)
    own_slots: ClassVar[tuple[str, ...]] = ("last",)

    def check(self, exchange: Exchange) -> None:
        """Refuse codecs and memories: the server's table would hold something else than what was sent."""
        self.plain_only(exchange)

    def step(self, window: Window) -> Tensor:
        """Replace rows of the table, of which only the mean over all workers is kept in one place."""
        state, workers = window.state, window.exchange.wire.size
        fresh = mean_steps(window, self.every)
        share = 1.0 if window.active is None else len(window.active) / workers
        state["mean"] = state["mean"] + share * window.exchange(fresh - state["last"], window.active)
        state["last"] = fresh
        filled = state.get("filled", torch.zeros(workers, dtype=torch.float64))
        came = torch.arange(workers) if window.active is None else window.active
        state["filled"] = filled = filled.index_fill(0, came, 1.0)
        return window.common - self.rate(window) * state["mean"] / filled.mean().to(fresh)
