"""FedHyper at the clients: their learning rate grows while steps, or rounds, agree, and shrinks while they don't.

    mode SL:   b_t = clip(b_{t-1} + <Delta_{t-1}, Delta_t>, b_0 / 10, 10 b_0), from round to round, the same for all
    mode CL:   c_k = clip(c_{k-1} min(1.1, 1 + <d_k, d_{k-1}> + s <d_k, Delta_{t-1}>), 0.1, 10), from step to step
    Delta_t: how far the common weights moved in round t,   d_k: a client's step,   d_0 = Delta_{t-1},   c_0 = 1

Use it when nobody has tuned the clients' learning rate, or clients need different ones.

Leave it when it is tuned, or when the clients' optimizer is Adam, whose steps agree less than they differ.

It costs two numbers of state per weight and client; nothing on the wire; no pass.

Wang et al., 2023, arXiv 2310.03156, FedHyper-SL and FedHyper-CL. In the released loop the list of SL's rates is made
anew in every round, so that they never do anything: here they last. Steps are scaled after the optimizer has made them,
which is its learning rate whatever the optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sooner.communication._codec import Buffers
from sooner.communication._hyper import agreement
from sooner.communication._local import Local, Place
from sooner.error import SoonerError
from sooner.part import check_flags, check_range
from sooner.space import Choice, Knob


@dataclass(frozen=True)
class FedHyperClients(Local):
    """Adapts the clients' learning rates by hypergradients.

    Args:
        mode: "CL" for a rate of each client and step, "SL" for one that the server sets.
        share: s, how much the direction of the round before counts in CL, default 0.01 (the script's 0.1 / 10 clients).
        base: b_0, the learning rate of the clients' optimizer, by which SL measures its changes; default 1 takes
            inner products as they are.
        cosine: take a tenth of the cosine in place of every inner product.

    Raises:
        SoonerError: a value out of range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"mode": Choice("CL", "SL")}
    slots: ClassVar[tuple[str, ...]] = ("last", "moved")
    numbers: ClassVar[tuple[str, ...]] = ("excess",)
    mode: str = "CL"
    share: float = 0.01
    base: float = 1.0
    cosine: bool = False

    def __post_init__(self) -> None:
        if self.mode not in ("CL", "SL"):
            raise SoonerError(
                f"fedhyper_clients: mode={self.mode!r} is none of CL and SL; the server's are in fedhyper"
            )
        check_range("fedhyper_clients", "share", self.share, 0, 1)
        check_range("fedhyper_clients", "base", self.base, 1e-12, math.inf)
        check_flags("fedhyper_clients", cosine=self.cosine)

    def direction(self, place: Place) -> Tensor:
        """Return the gradient: only rates change."""
        return place.gradient

    def window_begins(self, moved: Tensor, state: Buffers) -> None:
        """SL: set the round's rate. CL: begin again at the optimizer's own rate."""
        if self.mode == "SL":
            change = agreement(state["moved"], moved, self.cosine) / self.base
            state["excess"] = (1 + state["excess"] + change).clamp(0.1, 10) - 1
        else:
            state["excess"] = state["excess"] * 0
            state["last"] = moved.expand_as(state["last"]).clone()
        state["moved"] = moved.expand_as(state["moved"]).clone()

    def step(self, move: Tensor, place: Place) -> Tensor:
        """Scale the optimizer's move by the rate, and find the next step's."""
        state = place.state
        rate = 1 + state["excess"]
        made = rate * move
        if self.mode == "CL":
            with_last = agreement(made, state["last"], self.cosine)
            with_all = agreement(made, state["moved"], self.cosine)
            grown = rate * (1 + with_last + self.share * with_all).clamp(max=1.1)
            state["excess"] = grown.clamp(0.1, 10) - 1
            state["last"] = made
        return made
