"""EF21: every worker sends the change of its gradient since the estimate that the others have of it.

    c_i = C(g_i - h_i),   h_i <- h_i + c_i,   g = (1 / n) sum_i h_i;   the first exchange is not compressed

Use it when workers have very different data, and gradients without noise: it reaches the optimum where error feedback
stalls.

Leave it when gradients are noisy: the estimates follow the noise (ef21_momentum and econtrol do not).

It costs two numbers of state per weight, and nothing on the wire but the first, dense exchange; no pass.

Richtarik, Sokolov and Fatkhullin, 2021, arXiv 2106.05203, algorithm 2; a worker that does not take part leaves its
estimate in the mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sooner.communication._codec import Buffers, Moment
from sooner.communication._memory import Memory


@dataclass(frozen=True)
class EF21(Memory):
    """Keeps an estimate of every worker's gradient, and their mean."""

    slots: ClassVar[tuple[str, ...]] = ("estimate",)
    shared: ClassVar[tuple[str, ...]] = ("mean_estimate",)
    opens_dense: ClassVar[bool] = True

    def outgoing(self, g: Tensor, state: Buffers, moment: Moment) -> Tensor:
        """Return ``g - h``."""
        return g - state["estimate"]

    def sent(self, g: Tensor, v: Tensor, own: Tensor, state: Buffers, moment: Moment) -> None:
        """``h = h + C(g - h)``."""
        state["estimate"] = state["estimate"] + own

    def incoming(self, mean: Tensor, state: Buffers, share: float) -> Tensor:
        """Return the mean of all estimates."""
        state["mean_estimate"] = state["mean_estimate"].add(mean, alpha=share)
        return state["mean_estimate"]
