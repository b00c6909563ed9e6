"""EControl: EF21's estimates and error feedback in one message, with a knob between the two.

    c_i = C(eta e_i + g_i - h_i),   e_i <- e_i + g_i - h_i - c_i,   h_i <- h_i + c_i,   g = (1 / n) sum_i h_i

Use it when workers have different data and gradients are noisy, and `eta` can be tuned.

Leave it when workers have equal data: error feedback is better there.

It costs three numbers of state per weight, and nothing on the wire but the first, dense exchange; no pass.

Gao, Islamov and Stich, 2023, arXiv 2311.05645, algorithm 2. The error is taken with the old estimate, and steps with
the mean of the estimates, not with the message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sooner.communication._codec import Buffers, Moment
from sooner.communication.ef21 import EF21
from sooner.part import check_range
from sooner.space import Knob, Log


@dataclass(frozen=True)
class EControl(EF21):
    """Keeps an estimate of every worker's gradient and the error of that.

    Args:
        eta: how much of the error a message holds, in [0, 1), default 0.02; 0 is EF21. Theory wants it as small as the
            share that the codec sends.

    Raises:
        SoonerError: a value out of range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"eta": Log(1e-3, 0.3)}
    slots: ClassVar[tuple[str, ...]] = ("estimate", "error")
    eta: float = 0.02

    def __post_init__(self) -> None:
        check_range("econtrol", "eta", self.eta, 0.0, 1.0, open_high=True)

    def outgoing(self, g: Tensor, state: Buffers, moment: Moment) -> Tensor:
        """Return ``eta e + g - h``."""
        return (g - state["estimate"]).add_(state["error"], alpha=self.eta)

    def sent(self, g: Tensor, v: Tensor, own: Tensor, state: Buffers, moment: Moment) -> None:
        """``e = e + g - h - C(v)``, then ``h = h + C(v)``."""
        estimate = state["estimate"] + own
        state["error"] = (state["error"] + g).sub_(estimate)
        state["estimate"] = estimate
