"""Eight-bit averaging: every block of numbers crosses the wire as whole numbers up to 127 behind a scale.

    s_b = max |v_b| / 127,   q = round(v_b / s_b),   C(v)_b = s_b q

Use it when float16 is still too much, few workers take part, and a quarter of the bytes will do.

Leave it when more than four workers take part: eight-bit numbers do not add up, so all of them go to everyone, where an
all-reduce of float16 sends less.

It costs a byte per number on the wire, and four per block, to every other worker; no state; no pass. What is below half
of a step of its block's scale is lost, so put error feedback behind it where numbers of one block differ by a hundred
times.

Textbook; blocks as in Dettmers et al., 2021, arXiv 2110.02861, section 2.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sooner.communication._codec import Codec, Moment
from sooner.communication._sparse import magnitude
from sooner.communication._wire import Payload
from sooner.part import check_range
from sooner.space import Choice, Knob


@dataclass(frozen=True)
class Int8(Codec):
    """Rounds numbers to 255 levels of their block.

    Args:
        block: numbers that share a scale, default 256.

    Raises:
        SoonerError: a value out of range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"block": Choice(64, 256, 1024)}
    contractive: ClassVar[bool] = False
    block: int = 256

    def __post_init__(self) -> None:
        check_range("int8", "block", self.block, 1, math.inf, whole=True)

    @property
    def bytes_per_number(self) -> float:
        """A byte, and its share of a scale."""
        return 1 + 4 / self.block

    def encode(self, v: Tensor, moment: Moment) -> Payload:
        """Return whole numbers (..., d) int8 and scales (..., blocks) float32."""
        levels = torch.empty(v.shape, dtype=torch.int8, device=v.device)
        scales = []
        for numbers, into in zip(self._blocks(v), self._blocks(levels), strict=True):
            scale = magnitude(numbers, -1).div_(127).float()
            step = scale.clamp(min=torch.finfo(torch.float32).tiny).to(v.dtype)
            into.copy_((numbers / step[..., None]).round_())
            scales.append(scale)
        return levels, torch.cat(scales, -1)

    def decode(self, payload: Payload, moment: Moment) -> Tensor:
        """Return the numbers of the levels."""
        levels, scales = payload
        made = torch.empty(levels.shape, dtype=scales.dtype, device=levels.device)
        first = 0
        for numbers, into in zip(self._blocks(levels), self._blocks(made), strict=True):
            torch.mul(numbers, scales[..., first : first + numbers.shape[-2], None], out=into)
            first += numbers.shape[-2]
        return made

    def _blocks(self, v: Tensor) -> list[Tensor]:
        """Return views (..., blocks, block) of all whole blocks, and (..., 1, rest) of what is left over."""
        whole = v.shape[-1] // self.block
        blocks, rest = torch.split(v, [whole * self.block, v.shape[-1] - whole * self.block], -1)
        shaped = blocks.view(*v.shape[:-1], whole, self.block), rest.unsqueeze(-2)
        return [piece for piece in shaped if piece.numel()]
