"""Stochastic rounding to bfloat16: up or down with probabilities that keep the mean, so that small steps add up.

Rounding to the nearest loses every step smaller than half the spacing of bfloat16 numbers (1/256 of a weight). The
random bits are a hash of the element's number and the step, so equal runs round equally, in every executor.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LOW = 0xFFFFFFFF


def salt_of(step: int) -> int:
    """Return a 32-bit number that differs from step to step without pattern."""
    return int(salts_of(torch.tensor(step)))


def salts_of(steps: Tensor) -> Tensor:
    """Return the same for int64 step counts, where they are."""
    return _mixed(steps)


def round_stochastically(x: Tensor, first: int, salt: int) -> Tensor:
    """Return float32 values ``[n]`` as float32 numbers that bfloat16 can hold; NaN and infinity stay.

    Args:
        x: float32, contiguous.
        first: number of the first element.
        salt: from `salt_of`.
    """
    index = torch.arange(first, first + x.numel(), device=x.device)
    noise = _mixed((index + salt) & _LOW) & 0xFFFF
    bits = (x.view(torch.int32).long() & _LOW) + noise & 0xFFFF0000
    rounded = torch.where(bits > 0x7FFFFFFF, bits - (_LOW + 1), bits).int().view(torch.float32)
    return torch.where(torch.isfinite(x), rounded, x)


def random_numbers(first: int, count: int, salt: int, device: torch.device) -> Tensor:
    """Return numbers ``[count]`` in [0, 1), float32, that depend on the elements' numbers and the salt alone."""
    index = torch.arange(first, first + count, device=device)
    return (_mixed((index + salt) & _LOW) >> 8).float() / 2**24


def _mixed(x: Tensor) -> Tensor:
    """Return a hash of 32-bit numbers in int64 (Wellons, "hash-prospector", 2018, constants of lowbias32)."""
    x = (x ^ (x >> 16)) * 0x7FEB352D & _LOW
    x = (x ^ (x >> 15)) * 0x846CA68B & _LOW
    return x ^ (x >> 16)
