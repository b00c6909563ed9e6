"""Payloads of a few values with their places, padded to one length, so that every worker sends as much."""

from __future__ import annotations

import torch
from torch import Tensor

from sooner.communication._wire import Payload


def picked(v: Tensor, places: Tensor) -> Payload:
    """Return the values of ``v`` (..., d) at `places` (..., k), and the places as int32."""
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
    made.index_add_(0, places.reshape(-1).long(), values.reshape(-1).to(made.dtype))
    return made / values.shape[0]
