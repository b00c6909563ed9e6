"""Sign compression: one bit per number, and the mean magnitude of all of them.

    C(v) = (||v||_1 / d) sign(v),   sign(0) = 1

Use it when error feedback stands behind it and up to thirty workers take part: 32 times fewer bytes than float32, in
time that hardly counts.

Leave it when no memory keeps what is lost: signs alone need not converge.

It costs a bit per number on the wire, and a scale, to every other worker; no state; no pass.

Bernstein et al., 2018, arXiv 1802.04434; with the scale and error feedback, EF-signSGD of Karimireddy et al., 2019,
arXiv 1901.09847, algorithm 1.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sooner.communication._codec import Codec, Moment
from sooner.communication._wire import Payload
from sooner.foundation.layout import Layout
from sooner.part import check_choice

_PACK = 0x0102040810204080
"""Times eight bytes of 0 or 1, read as one number, this has their bits side by side in its highest byte."""


@dataclass(frozen=True)
class Sign(Codec):
    """Sends signs.

    Args:
        per: "model" for one scale, "parameter" for one scale per parameter.

    Raises:
        SoonerError: another word.
    """

    per: str = "model"

    def __post_init__(self) -> None:
        check_choice("sign", "per", self.per, ("model", "parameter"))

    @property
    def bytes_per_number(self) -> float:
        """A bit."""
        return 1 / 8

    def encode(self, v: Tensor, moment: Moment) -> Payload:
        """Return bits (..., ceil(d / 8)) uint8 and scales (..., 1 or parameters) float32."""
        size = v.shape[-1]
        positive = torch.zeros(*v.shape[:-1], size + -size % 8, dtype=torch.bool, device=v.device)
        torch.ge(v, 0, out=positive[..., :size])
        bits = (positive.view(torch.int64) * _PACK >> 56) & 255
        return bits.to(torch.uint8), self._scales(v, moment.layout)

    def decode(self, payload: Payload, moment: Moment) -> Tensor:
        """Return plus or minus the scale."""
        bits, scales = payload
        signs = _table(bits.device).index_select(0, bits.reshape(-1).int())
        made = signs.view(*bits.shape[:-1], -1)[..., : moment.layout.size]
        if self.per == "model":
            return made.mul_(scales)
        first = 0
        for block in moment.layout.blocks:
            block.of(made).mul_(_beside(scales[..., first : first + block.count], len(block.shape)))
            first += block.count
        return made

    def _scales(self, v: Tensor, layout: Layout) -> Tensor:
        if self.per == "model":
            return _mean_size(v)[..., None]
        shapes = [(*v.shape[:-1], block.count, math.prod(block.shape)) for block in layout.blocks]
        each = [block.of(v).view(shape) for block, shape in zip(layout.blocks, shapes, strict=True)]
        return torch.cat([_mean_size(numbers) for numbers in each], -1)


def _mean_size(v: Tensor) -> Tensor:
    total: Tensor = torch.linalg.vector_norm(v, 1, dim=-1).float()
    return total / max(v.shape[-1], 1)


def _beside(scales: Tensor, dimensions: int) -> Tensor:
    return scales.reshape(*scales.shape, *[1] * dimensions)


@functools.cache
def _table(device: torch.device) -> Tensor:
    """Return the eight signs of every byte, (256, 8), the lowest bit first."""
    bits = torch.arange(256)[:, None] >> torch.arange(8) & 1
    return (2 * bits - 1).float().to(device)
