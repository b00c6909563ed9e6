"""Numbers in 8 or 4 bits: a vector is cut into blocks with a scale each, and a number is the nearest of a few levels.

    s = the x of the block that is farthest from 0
    x / s  ->  the nearest level in (-1, 1], or in [0, 1] where no x of the block is negative

Levels are those of Dettmers et al., 2021, arXiv 2110.02861 (dynamic: as many for every power of ten, more for large
ones) and, for blocks of 4 bits without negative numbers, evenly spaced as in Li et al., 2023, arXiv 2309.01507. What is
decided here:

- The farthest number counts with its sign, since of the ends of the levels only 1 is one of them: nothing shrinks from
  step to step because it is negative.
- Which levels a block has is seen by its numbers, and noted in the last bit of its scale, so no rule has to say which
  of its means are never negative.
- Where no number is negative, one that is not 0 is never stored as 0, but as the smallest level at least: what is
  divided by its root would else become huge (Li et al., section 4, leave 0 out of the levels; here 0 stays exactly 0).
- NaN or infinity anywhere makes the whole block NaN.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sooner.execute import low_bits_c
from sooner.execute.rounding import random_numbers
from sooner.execute.shards import local

SCALE = "_scale"
"""Scales are kept beside the bytes, under their name with this behind it."""

LIFT = 2.0**23
"""Blocks without negative numbers are looked up in the same list as the others, this many times as large: exactly, as a
power of two, and their smallest level then lies above all levels of the others."""


_in_c: contextvars.ContextVar[bool] = contextvars.ContextVar("in_c", default=False)


@contextlib.contextmanager
def in_c() -> Iterator[None]:
    """Inside, float32 on a CPU is encoded and decoded by compiled loops, where there is a compiler."""
    token = _in_c.set(True)
    try:
        yield
    finally:
        _in_c.reset(token)


@dataclass(frozen=True)
class LowBits:
    """One way to store numbers.

    Attributes:
        bits: of a number.
        block: numbers that share a scale.
    """

    bits: int
    block: int

    def blocks(self, count: int) -> int:
        """Return how many scales so many numbers have."""
        return -(-count // self.block)

    def code_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the bytes of a tensor: its own for 8 bits, flat with two numbers in each for 4."""
        if self.bits == 8:
            return shape
        return (-(-math.prod(shape) * self.bits // 8),)

    def fits(self, codes: object, scale: object, shape: tuple[int, ...]) -> bool:
        """Whether these are the bytes and scales of a tensor of this shape."""
        return (
            isinstance(codes, Tensor)
            and isinstance(scale, Tensor)
            and codes.dtype == torch.uint8
            and tuple(codes.shape) == self.code_shape(shape)
            and tuple(scale.shape) == (self.blocks(math.prod(shape)),)
        )

    def encode(self, x: Tensor, noise: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
        """Return the bytes of a vector, uint8, and the scales of its blocks, in its dtype.

        Args:
            x: ``[n]``, float32 or float64.
            noise: rounds up or down at random, keeping the mean: the number of the first element and a salt, from which
                the random numbers are made. None rounds to the nearest level.
        """
        count = len(x)
        table = _table(self.bits, x.device, x.dtype)
        if _in_c.get() and low_bits_c.suits(x):
            tables = (table.levels, table.middles, table.first, table.codes)
            done = low_bits_c.encode(x, (self.bits, self.block), tables, (table.lowest, table.smallest, LIFT), noise)
            if done is not None:
                return done
        missing = -count % self.block
        blocks = (torch.nn.functional.pad(x, (0, missing)) if missing else x).view(-1, self.block)
        low, high = blocks.aminmax(dim=1, keepdim=True)
        positive = low >= 0
        scale = _marked(torch.where(-low > high, low, high), positive)
        y = (blocks / torch.where(scale == 0, 1, scale)).clamp_(table.lowest, 1)
        lifted = torch.where(y > 0, (y * LIFT).clamp_(min=table.smallest), y)
        y = torch.where(positive, lifted, y).view(-1).float()
        place = table.first[(y.view(torch.int32) >> 16) & 0xFFFF]
        place += y > table.middles[place]
        if noise is not None:
            place -= (table.levels[place] > y).int()
            below, above = table.levels[place], table.levels[place + 1]
            place += y - below > random_numbers(noise[0], len(y), noise[1], x.device) * (above - below)
        codes = table.codes[place]
        if self.bits == 4:
            codes = codes[0::2] | codes[1::2] << 4
        return codes[: -(-count * self.bits // 8)], torch.where(scale.isfinite(), scale, torch.nan).view(-1)

    def decode(self, codes: Tensor, scale: Tensor, count: int) -> Tensor:
        """Return the vector ``[count]`` of bytes and scales, in the scales' dtype."""
        codes = codes.reshape(-1)
        table = _table(self.bits, scale.device, scale.dtype).values
        if _in_c.get() and low_bits_c.suits(codes, scale):
            done = low_bits_c.decode(codes, scale, count, (self.bits, self.block), table)
            if done is not None:
                return done
        if self.bits == 4:
            codes = torch.stack((codes & 15, codes >> 4), 1).view(-1)[:count]
        offset = _is_marked(scale) << self.bits
        places = codes.int()
        whole = count - count % self.block
        if whole == count:
            places = places.view(-1, self.block) + offset.view(-1, 1)
            return table[places].mul_(scale.view(-1, 1)).view(-1)
        each = torch.arange(count, device=codes.device).div_(self.block, rounding_mode="floor")
        return table[places + offset[each]].mul_(scale[each])


FORMS = {8: LowBits(8, 256), 4: LowBits(4, 128)}
"""Blocks of 256 numbers for 8 bits, as bitsandbytes and torchao have them, and of 128 for 4 as in Li et al."""


def form_of(state: Mapping[str, Any], slot: str, shape: tuple[int, ...]) -> LowBits | None:
    """Return how the state of a slot, for a tensor of this shape, rests in few bits; None where it does not."""
    found = state[slot], state.get(slot + SCALE)
    return next((form for form in FORMS.values() if form.fits(*found, shape)), None)


def unpacked(state: Mapping[str, Any], slot: str, shape: tuple[int, ...]) -> Any:
    """Return the state of a slot in full, decoded where it rests in few bits; of sharded parameters the piece."""
    if slot + SCALE not in state:
        return state[slot]
    own = {name: local(state[name].detach()) for name in (slot, slot + SCALE)}
    form = form_of(own, slot, shape)
    return own[slot] if form is None else form.decode(own[slot], own[slot + SCALE], math.prod(shape)).view(shape)


@dataclass(frozen=True)
class _Table:
    """What numbers are looked up in.

    Attributes:
        levels: of blocks with negative numbers, behind them those above 0 of the others, lifted; sorted, and the last
            one twice.
        middles: what lies between them, and infinity.
        first: by the upper half of a float32, how many middles are below all numbers that share it. At most one is
            among these, so a single comparison finds a number's level.
        codes: the byte of each level.
        values: levels by byte: of blocks with negative numbers, then of the others.
        smallest: level above 0 of the others, lifted.
        lowest: of the levels, which lies above -1.
    """

    levels: Tensor
    middles: Tensor
    first: Tensor
    codes: Tensor
    values: Tensor
    smallest: float
    lowest: float


def signed_levels(bits: int) -> Tensor:
    """Return the levels of blocks with negative numbers, float64, sorted; 1 has no partner at -1."""
    means, ends = _dynamic(bits - 1, signed=True), torch.tensor([0.0, 1.0], dtype=torch.float64)
    return torch.cat([-means.flip(0), ends[:1], means, ends[1:]])


def positive_levels(bits: int) -> Tensor:
    """Return the levels of blocks without negative numbers, float64, sorted from 0 to 1."""
    if bits == 4:
        return torch.linspace(0, 1, 16, dtype=torch.float64)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    return torch.cat([ends[:1], _dynamic(bits - 1, signed=False), ends[1:]])


def _dynamic(exponents: int, *, signed: bool) -> Tensor:
    """Return levels above 0: of each power of ten twice as many as of the next smaller one, in the middle of equal
    parts of [0.1, 1] times that power.
    """
    found = []
    for i in range(exponents):
        ends = torch.linspace(0.1, 1, 2 ** (i if signed else i + 1) + 1, dtype=torch.float64)
        found.append((ends[:-1] + ends[1:]) / 2 * 10.0 ** (i + 1 - exponents))
    return torch.cat(found)


def _marked(scale: Tensor, positive: Tensor) -> Tensor:
    """Return scales whose last bit says whether the block has no negative numbers; 0 stays 0."""
    bits = scale.view(_whole(scale))
    return torch.where(scale == 0, bits, (bits & -2) | positive.to(bits.dtype)).view(scale.dtype)


def _is_marked(scale: Tensor) -> Tensor:
    return (scale.view(_whole(scale)) & 1).int()


def _whole(scale: Tensor) -> torch.dtype:
    return torch.int64 if scale.dtype == torch.float64 else torch.int32


@functools.cache
def _table(bits: int, device: torch.device, dtype: torch.dtype) -> _Table:
    signed, positive = signed_levels(bits), positive_levels(bits)
    above = positive[1:] * LIFT
    levels = torch.cat([signed, above])
    middles = ((levels[:-1] + levels[1:]) / 2).float()
    upper = torch.arange(-(2**15), 2**15, dtype=torch.int32) << 16
    ends = torch.stack([upper, upper | 0xFFFF]).view(torch.float32)
    first = torch.bucketize(torch.nan_to_num(ends.amin(0), nan=0.0), middles, out_int32=True)
    count, zero = len(signed), len(signed) // 2 - 1
    codes = torch.cat([(torch.arange(count) - zero) % 2**bits, torch.arange(1, len(positive))])
    by_code = torch.zeros(2**bits, dtype=torch.float64)
    by_code[codes[:count]] = signed
    return _Table(
        torch.cat([levels, levels[-1:]]).to(device, torch.float32),
        torch.cat([middles, torch.tensor([torch.inf])]).to(device),
        first.roll(2**15).to(device),
        codes.to(device, torch.uint8),
        torch.cat([by_code, positive]).to(device, dtype),
        float(above[0].float()),
        float(levels[0].float()),
    )
