"""FedSpeed: local steps that are drawn to the common weights, without the bias of that, along gradients from uphill.

    g1 = gradient at w,   g2 = gradient of the same batch at w + rho * g1 / (||g1|| + 1e-7),   g = (1 - a) * g1 + a * g2
    d = clip(g + lambda * (h_i - w_t)) + lambda * w,   by their common norm
    end of the window:   h_i <- h_i + (w_i - w_t),   w_{t+1} = mean over active of w_i + mean over all of h_j

Use it when clients have very different data and rounds are dear: with the correction h they can take many local steps.

Leave it when passes count more than rounds: of a step's two passes, only one is seen by others.

It costs a second pass per step; nothing on the wire (the server can add up h from what it receives); one number of
state per weight and client.

Sun et al., 2023, arXiv 2302.10429, algorithm 1, with lambda for the paper's 1 / lambda. The clipping of the released
code, which the paper does not have, comes before the decay that draws to zero: clipping their sum is another method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sooner.communication._codec import Buffers
from sooner.communication._local import Local, Place
from sooner.communication.sam import uphill
from sooner.part import check_range
from sooner.space import Knob, Log


@dataclass(frozen=True)
class FedSpeed(Local):
    """Proximal steps with a correction, along the gradient uphill.

    Args:
        pull: lambda, strength of the proximal term and of its correction, default 0.1.
        rho: how far uphill, in the norm of all weights, default 0.1.
        blend: a, weight of the gradient uphill, in [0, 1], default 1 as in the released code.
        clip_norm: largest norm of a direction without its decay, default 10; None for any.

    Raises:
        SoonerError: a value out of range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"pull": Log(1e-2, 1.0), "rho": Log(1e-2, 0.5)}
    slots: ClassVar[tuple[str, ...]] = ("correction",)
    passes: ClassVar[int] = 2
    pull: float = 0.1
    rho: float = 0.1
    blend: float = 1.0
    clip_norm: float | None = 10.0

    def __post_init__(self) -> None:
        check_range("fedspeed", "pull", self.pull, 0.0, math.inf)
        check_range("fedspeed", "rho", self.rho, 0.0, math.inf)
        check_range("fedspeed", "blend", self.blend, 0.0, 1.0)
        if self.clip_norm is not None:
            check_range("fedspeed", "clip_norm", self.clip_norm, 0.0, math.inf)

    def direction(self, place: Place) -> Tensor:
        """``clip(g + lambda (h - w_t)) + lambda w``."""
        ahead = place.gradient_at(place.weights + uphill(place.gradient, self.rho, 1e-7))
        g = place.gradient.lerp(ahead, self.blend)
        d = g + self.pull * (place.state["correction"] - place.anchor)
        if self.clip_norm is not None:
            d = d * (self.clip_norm / d.norm(dim=-1, keepdim=True).clamp(min=self.clip_norm))
        return d + self.pull * place.weights

    def window_ended(self, anchor: Tensor, weights: Tensor, state: Buffers) -> None:
        """``h <- h + (w - w_t)``."""
        state["correction"] = state["correction"] + (weights - anchor)

    def correction(self, state: Buffers) -> Tensor:
        """Return the mean of h over all clients, those that took no part included."""
        return state["correction"].mean(0)
