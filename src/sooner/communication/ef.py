"""Error feedback: what was not sent is added to what is sent next.

    v_i = g_i + e_i,   e_i <- v_i - C(v_i),   g = (1 / n) sum_i C(v_i)

Use it when a codec drops or rounds a lot: without it, what is dropped never arrives.

Leave it when workers have very different data: it then stalls short of the optimum, where EF21 does not.

It costs one number of state per weight; nothing on the wire; no pass.

Seide et al., 2014, Interspeech, '1-bit stochastic gradient descent'; Karimireddy et al., 2019, arXiv 1901.09847.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sooner.communication._codec import Buffers, Moment
from sooner.communication._memory import Memory


@dataclass(frozen=True)
class EF(Memory):
    """Keeps the error of every worker."""

    slots: ClassVar[tuple[str, ...]] = ("error",)

    def outgoing(self, g: Tensor, state: Buffers, moment: Moment) -> Tensor:
        """Return ``g + e``."""
        return g + state["error"]

    def sent(self, g: Tensor, v: Tensor, own: Tensor, state: Buffers, moment: Moment) -> None:
        """``e = v - C(v)``."""
        state["error"] = v - own
