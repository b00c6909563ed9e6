"""Payloads as bytes with a checksum, so that one that does not decode is an error and never a silent wrong number."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sooner.communication._wire import Payload
from sooner.error import SoonerError

_TRAILER = 8
"""Bytes of the checksum, and what parts are padded to a multiple of."""


_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # its name before torch 2.13


def gathered(mine: Tensor, group: Any, *, background: bool = False) -> tuple[Tensor, Any]:
    """Return every rank's bytes (ranks, bytes), and the work to wait for where it goes on in the background."""
    ranks = dist.get_world_size(group)
    everyone = mine.new_empty(ranks * len(mine))
    work = _gather(everyone, mine, group=group, async_op=background)
    return everyone.view(ranks, -1), work


def packed(payload: Payload) -> Tensor:
    """Return the parts as bytes, each padded to a multiple of eight, and their checksum."""
    parts = []
    for part in payload:
        bytes_ = part.contiguous().reshape(-1).view(torch.uint8)
        parts.append(torch.nn.functional.pad(bytes_, (0, -len(bytes_) % _TRAILER)))
    content = torch.cat(parts)
    return torch.cat((content, _checksum(content[None]).view(torch.uint8)))


def unpacked(received: Tensor, like: Payload) -> Payload:
    """Return the parts (senders, ...) of packed payloads (senders, bytes).

    Raises:
        SoonerError: a checksum is wrong.
    """
    content, trailer = received[:, :-_TRAILER], received[:, -_TRAILER:]
    sums = trailer.contiguous().view(torch.int64)[:, 0]
    wrong = (_checksum(content) != sums).nonzero()
    if len(wrong):
        raise SoonerError(
            f"the payload of sender {int(wrong[0])} arrived damaged (its checksum is wrong); "
            "run the same version of sooner and the same recipe everywhere"
        )
    parts, position = [], 0
    for part in like:
        size = part.numel() * part.element_size()
        bytes_ = content[:, position : position + size].contiguous()
        parts.append(bytes_.view(part.dtype).view(-1, *part.shape))
        position += math.ceil(size / _TRAILER) * _TRAILER
    return tuple(parts)


def _checksum(content: Tensor) -> Tensor:
    """Return a number per row (rows,) int64 of bytes (rows, n)."""
    return content.contiguous().view(torch.int32).sum(dim=1, dtype=torch.int64)
