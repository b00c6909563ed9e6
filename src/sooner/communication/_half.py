"""Vectors of 16-bit numbers behind one shared scale, which no message carries."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from sooner.communication._codec import Buffers, Codec, Moment, Sent, nan_unless_finite
from sooner.communication._wire import Payload, Wire
from sooner.foundation.layout import Layout


class Half(Codec):
    """Numbers divided by a scale and rounded; the scale of a step is the largest number of the mean before it.

    All workers know that mean, so none has to send the scale. The first exchange has the scale 1, and while all of a
    mean is too small for it, the next one has a thousandth of it.
    """

    reducible: ClassVar[bool] = True
    contractive: ClassVar[bool] = False
    passes_nan: ClassVar[bool] = True
    kind: ClassVar[torch.dtype]

    @property
    def bytes_per_number(self) -> float:
        """2."""
        return 2.0

    def buffers(self, layout: Layout, like: Tensor) -> Buffers:
        """Return the scale, 0-d float32."""
        return {"scale": torch.ones((), device=like.device)}

    def encode(self, v: Tensor, moment: Moment) -> Payload:
        """Return the rounded numbers; too large ones become the largest there is, NaN stays."""
        most = torch.finfo(self.kind).max / moment.workers  # so that their sum is finite
        return (v.to(self.kind).clamp(-most, most),)

    def decode(self, payload: Payload, moment: Moment) -> Tensor:
        """Return them as float32."""
        return payload[0].float()

    def send(self, v: Tensor, wire: Wire, state: Buffers, moment: Moment) -> Sent:
        """Scale, exchange, scale back, and choose the next scale."""
        scale = state["scale"].to(v.dtype)
        # an infinity would become the largest number there is: all of its vector is NaN instead
        scaled = torch.empty(v.shape, dtype=self.kind, device=v.device)
        payload = self.encode(torch.div(v, scale + nan_unless_finite(v), out=scaled), moment)
        mean = self.decode(wire.mean(payload), moment).to(v.dtype).mul_(scale)
        state["scale"] = next_scale(mean, state["scale"])
        return Sent(self.decode(payload, moment).to(v.dtype).mul_(scale), mean)


_LEAST = 1e-12
"""No scale is smaller: gradients that were zero for a while may come back, and be cut off until the scale has grown."""


def next_scale(mean: Tensor, scale: Tensor) -> Tensor:
    """Return the scale (0-d float32) after an exchange with `scale` that gave this mean (d,)."""
    if not mean.numel():  # a fragment without parameters
        return scale
    largest = torch.maximum(mean.amax(), mean.amin().neg()).float()
    smaller = (scale.float() / 1024).clamp(min=_LEAST)
    return torch.where(torch.isfinite(largest), torch.where(largest > 0, largest, smaller), scale.float())
