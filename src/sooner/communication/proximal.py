"""Proximal local steps (FedProx): every worker is drawn back to the weights from which its window began.

    d = g + mu * (w - w_t)

Use it when clients have different data and take many local steps: it keeps them from drifting apart.

Leave it when the drift is small: it only slows the workers down then.

It costs nothing on the wire; no state but the weights at the start of the window; no pass.

Li et al., 2018, arXiv 1812.06127, eq. 2.
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
class Proximal(Local):
    """Adds the gradient of ``mu / 2 * ||w - w_t||^2``.

    Args:
        mu: strength, at least 0, default 0.1.

    Raises:
        SoonerError: a value out of range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"mu": Log(1e-3, 1.0)}
    mu: float = 0.1

    def __post_init__(self) -> None:
        check_range("proximal", "mu", self.mu, 0.0, math.inf)

    def direction(self, place: Place) -> Tensor:
        """``g + mu (w - w_t)``."""
        return place.gradient + self.mu * (place.weights - place.anchor)
