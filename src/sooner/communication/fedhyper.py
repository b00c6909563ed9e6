"""FedHyper at the server: the server's step grows while successive rounds agree, and shrinks while they don't.

    Delta_t = (1 / n) sum_i (theta_i - theta)
    mode G:    alpha_t = clip(alpha_{t-1} + <Delta_{t-1}, Delta_t>),   theta <- theta + alpha_t Delta_t
    mode GM:   alpha_t = clip(alpha_{t-1} + <M_{t-1}, Delta_t>),   M_t = Delta_t + 0.9 M_{t-1}
               theta <- theta + alpha_t Delta_t + 0.9 (alpha_t - 1) M_{t-1}

Use it when nobody has tuned the clients' learning rate: a start that is too small is made good.

Leave it when it is tuned: then there is little left to gain.

It costs what averaging costs on the wire, two numbers of state per weight; no pass.

Wang et al., 2023, arXiv 2310.03156, FedHyper-G with the paper's bounds of 1/3 and 3; GM is the released script's, with
its bounds of 0.8 and 5. Inner products are as raw as theirs, so they depend on size and learning rate; `cosine` makes
them free of both, and is ours. Rates of clients are in `fedhyper_clients`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sooner.communication._hyper import agreement
from sooner.communication._outer import Outer, Window
from sooner.error import SoonerError
from sooner.part import check_flags, check_range
from sooner.space import Choice, Knob

_BOUNDS = {"G": (1 / 3, 3.0), "GM": (0.8, 5.0)}
_MOMENTUM = 0.9


@dataclass(frozen=True)
class FedHyper(Outer):
    """Adapts the server's learning rate by hypergradients.

    Args:
        every: optimizer steps per round, default 20.
        mode: "G", or "GM" with momentum.
        cosine: take a tenth of the cosine in place of the inner product.
        low: the least that alpha becomes; None for the mode's own.
        high: the most.

    Raises:
        SoonerError: a value out of range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"every": Choice(5, 10, 20, 50), "mode": Choice("G", "GM")}
    slots: ClassVar[tuple[str, ...]] = ("last",)
    every: int = 20
    mode: str = "G"
    cosine: bool = False
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        self.check_every()
        if self.mode not in _BOUNDS:
            raise SoonerError(
                f"fedhyper: mode={self.mode!r} is none of G and GM; clients' rates are in fedhyper_clients"
            )
        low, high = self.bounds
        check_range(self.name(), "low", low, 0, 1)
        check_range(self.name(), "high", high, 1, math.inf)
        check_flags(self.name(), cosine=self.cosine)

    @property
    def bounds(self) -> tuple[float, float]:
        """Between what alpha stays."""
        low, high = _BOUNDS[self.mode]
        return low if self.low is None else self.low, high if self.high is None else self.high

    def step(self, window: Window) -> Tensor:
        """Adapt the rate and take one outer step."""
        delta, state = -window.backwards(), window.state
        last = state["last"]
        alpha = state.get("alpha", delta.new_ones(1)) + agreement(last, delta, self.cosine)
        state["alpha"] = alpha = alpha.clamp(*self.bounds)
        if self.mode == "G":
            state["last"] = delta
            return window.common + alpha * delta
        state["last"] = delta + _MOMENTUM * last
        return window.common + alpha * delta + _MOMENTUM * (alpha - 1) * last
