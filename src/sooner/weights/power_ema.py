"""Power-function average of the weights: it spans a fixed share of the training so far, however long that gets.

    a_t = a_(t-1) + w_t * (theta_t - a_(t-1)),   w_t = 1 - (1 - 1 / t)^(gamma + 1),   t = 1, 2, …

So the weights of step i count as i^gamma. The profile widens with the training: its standard deviation is always
`width` of the steps taken, from which gamma follows. An exponential average has one memory for every length; this one
is the same average of a run of a thousand steps and of one of a million, and nothing needs to be known of the end.

Use it when training may end at any time, or one setting has to serve runs of any length.

Leave it when rates decay to zero, where little noise is left to average, or the data change on the way, where old
weights speak of old data.

It costs one number of state per weight (float32 for half precision), on another device if asked; no pass; nothing on
the wire.

Karras et al., 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models", arXiv 2312.02696, equations 3
and 4 (the average) and appendix C.1 (gamma of a width).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import nn

from sooner.part import check_range
from sooner.space import Choice, Knob
from sooner.weights.ema import EMA

__all__ = ["PowerEMA", "exponent"]

WIDEST = 1 / math.sqrt(12)
"""Standard deviation of all steps alike, gamma = 0, as a share of them."""


class PowerEMA(EMA):
    """Keeps the average; `view` lends it to the model. In all else it is as `EMA`, states included.

    Args:
        model: the model; wrappers of it are looked through.
        width: standard deviation of the profile as a share of the steps taken, in [0.001, 0.288], default 0.1. At
            the largest all steps count alike.
        device: where the averages are kept, such as ``"cpu"``; None for where the weights are. Then every step brings a
            copy of the weights there, and waits for it.

    Raises:
        SoonerError: a width outside its range, a device without memory, or a model without trained parameters.
    """

    space: ClassVar[Mapping[str, Knob]] = {"width": Choice(0.02, 0.05, 0.1, 0.15, 0.2)}

    def __init__(self, model: nn.Module, width: float = 0.1, device: torch.device | str | None = None) -> None:
        check_range("power_ema", "width", width, 0.001, WIDEST)
        self.width = width
        self._gamma = exponent(width)
        self._begin(model, device)

    def share(self, age: int) -> float:
        """Return how much of an average that has taken `age` steps, this one included, the newest weights are."""
        return 1.0 - math.pow(1.0 - 1.0 / age, self._gamma + 1.0)


def exponent(width: float) -> float:
    """Return the gamma whose profile t^gamma on [0, 1] has the standard deviation `width` in [0.001, 0.288].

    It solves width^2 (gamma + 2)^2 (gamma + 3) = gamma + 1, by halving: below 1 / width, since each factor but one of
    (gamma + 2)^2 (gamma + 3) / (gamma + 1) is larger than gamma, and the last than 1.
    """
    low, high = 0.0, 1.0 / width
    for _ in range(80):
        middle = (low + high) / 2
        wider = (middle + 2) ** 2 * (middle + 3) * width**2 < middle + 1
        low, high = (middle, high) if wider else (low, middle)
    return low
