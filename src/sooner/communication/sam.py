"""Sharpness-aware local steps (SAM): the gradient is taken a little way uphill, where sharp minima show.

    e = rho * g / (||g|| + 1e-12),   d = gradient of the same batch at w + e

Use it when clients have few or different data: flat minima of one client are nearer to those of the others (FedSAM with
a server, DFedSAM with `gossip`).

Leave it when passes count more than rounds.

It costs a second pass per step; nothing on the wire; no state.

Foret et al., 2020, arXiv 2010.01412, eq. 3; in federated rounds Shi et al., 2023, arXiv 2302.04083. The norm is over
all parameters of a worker, not per layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sooner.communication._local import Local, Place
from sooner.part import check_range
from sooner.space import Knob, Log


@dataclass(frozen=True)
class SAM(Local):
    """Looks at the gradient uphill.

    Args:
        rho: how far uphill, in the norm of all weights, at least 0, default 0.05.

    Raises:
        SoonerError: a value out of range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"rho": Log(1e-3, 0.5)}
    passes: ClassVar[int] = 2
    needs_window: ClassVar[bool] = False
    rho: float = 0.05

    def __post_init__(self) -> None:
        check_range("sam", "rho", self.rho, 0.0, math.inf)

    def direction(self, place: Place) -> Tensor:
        """Return the gradient at ``w + e``."""
        return place.gradient_at(place.weights + uphill(place.gradient, self.rho, 1e-12))


def uphill(gradient: Tensor, rho: float, epsilon: float) -> Tensor:
    """Return (..., d) of length `rho` along the gradient."""
    length: Tensor = gradient.norm(dim=-1, keepdim=True)
    return gradient * (rho / (length + epsilon))
