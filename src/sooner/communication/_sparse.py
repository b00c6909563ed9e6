"""Payloads of a few values with their places, padded to one length, so that every worker sends as much."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sooner.communication._wire import Payload
from sooner.error import SoonerError
from sooner.foundation.layout import Block
from sooner.part import check_range

Chosen = Callable[[Tensor, int], Tensor]
"""From vectors (..., d) and k to the places (..., k) of their largest numbers."""


def check_ratio(part: str, ratio: float) -> None:
    """Refuse a share of numbers that is not in (0, 1].

    Raises:
        SoonerError: it is not.
    """
    check_range(part, "ratio", ratio, 0.0, 1.0)
    if ratio == 0:
        raise SoonerError(f"{part}: ratio=0 sends nothing at all; choose a share above 0, such as 0.001")


def count_of(ratio: float, size: int) -> int:
    """Return how many of `size` numbers are this share of them, rounded up."""
    return min(size, math.ceil(round(ratio * size, 6)) or 1)


def largest(v: Tensor, k: int) -> Tensor:
    """Return the places (..., k), in no order, of the numbers of ``v`` (..., d) with the largest magnitudes."""
    size = v.shape[-1]
    folds = int(0.7 * math.sqrt(size / max(k, 1)))
    if size < 4096 or folds < 4:
        return v.abs().topk(k, sorted=False).indices
    # The k largest lie in the k columns with the largest maxima: the rest need not be looked at twice.
    width = size // folds
    columns = magnitude(v[..., : folds * width].view(*v.shape[:-1], folds, width), -2).topk(k, sorted=False).indices
    rows = torch.arange(folds, device=v.device)[:, None] * width
    tail = torch.arange(folds * width, size, device=v.device).expand(*v.shape[:-1], -1)
    candidates = torch.cat(((columns[..., None, :] + rows).flatten(-2), tail), -1)
    return candidates.gather(-1, v.gather(-1, candidates).abs().topk(k, sorted=False).indices)


def magnitude(v: Tensor, dim: int) -> Tensor:
    """Return the largest magnitude along a dimension, without a copy of all of them."""
    return torch.maximum(v.amax(dim), v.amin(dim).neg_())


def in_every_parameter(v: Tensor, blocks: Sequence[Block], ratio: float, choose: Chosen = largest) -> Tensor:
    """Return the places (..., K) of the largest numbers of every parameter in these blocks of ``v`` (..., d)."""
    found = [torch.empty(*v.shape[:-1], 0, dtype=torch.long, device=v.device)]
    for block in blocks:
        if not block.size:
            continue
        each = block.size // block.count
        places = choose(block.of(v).reshape(*v.shape[:-1], block.count, each), count_of(ratio, each))
        starts = block.start + each * torch.arange(block.count, device=v.device)[:, None]
        found.append((places + starts).flatten(-2))
    return torch.cat(found, -1)


def picked(v: Tensor, places: Tensor) -> Payload:
    """Return the values of ``v`` (..., d) at `places` (..., k), and the places as int32.

    Raises:
        SoonerError: there are places that int32 can't count.
    """
    if v.shape[-1] > torch.iinfo(torch.int32).max:
        raise SoonerError(
            f"{v.shape[-1]} numbers have more places than 32 bits can count; use a codec that sends no places, such as "
            "random_k or powersgd"
        )
    return v.gather(-1, places), places.to(torch.int32)


def spread(payload: Payload, size: int) -> Tensor:
    """Return vectors (..., d) with the values at their places and zero elsewhere."""
    values, places = payload
    made = values.new_zeros(*values.shape[:-1], size, dtype=torch.promote_types(values.dtype, torch.float32))
    return made.scatter_add_(-1, places.long(), values.to(made.dtype))


def mean_of(payloads: Payload, size: int) -> Tensor:
    """Return the mean (d,) of what all workers' payloads (workers, k) stand for, at the cost of what was sent."""
    values, places = payloads
    made = values.new_zeros(size, dtype=torch.promote_types(values.dtype, torch.float32))
    made.index_add_(0, places.reshape(-1).long(), (values.to(made.dtype) / values.shape[0]).reshape(-1))
    return made
