"""The tensors of a model that no gradient moves: equal at the start, averaged for evaluation and at the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from sooner.communication._group import Group
from sooner.communication._wire import Wire


def start_together(tensors: Iterable[Tensor], wire: Wire, device: torch.device) -> None:
    """Make tensors those of the first rank, in one broadcast, whatever their types and strides."""
    tensors = [t.detach() for t in tensors if t.numel()]
    if wire.size == 1 or not isinstance(wire, Group) or not tensors:
        return
    flat = torch.cat([t.contiguous().reshape(-1).view(torch.uint8).to(device) for t in tensors])
    with wire.watching():
        torch.distributed.broadcast(flat, group=wire.group, group_src=0)
    sizes = [t.numel() * t.element_size() for t in tensors]
    for t, piece in zip(tensors, torch.split(flat, sizes), strict=True):
        # a copy, because numbers must not begin at any byte
        t.copy_(piece.clone().view(t.dtype).view(t.shape))


def averageable(model: nn.Module) -> list[Tensor]:
    """Return the buffers that have a mean, such as running statistics; counters have none."""
    return [b for b in model.buffers() if b.is_floating_point() and b.numel()]


def average(buffers: Sequence[Tensor], wire: Wire) -> None:
    """Replace the buffers by their means over the ranks."""
    if not buffers or wire.size == 1:
        return
    flat = torch.cat([b.reshape(-1).to(torch.promote_types(b.dtype, torch.float32)) for b in buffers])
    (mean,) = wire.mean((flat,))
    pieces = torch.split(mean, [b.numel() for b in buffers])
    torch._foreach_copy_(list(buffers), [piece.view(b.shape) for b, piece in zip(buffers, pieces, strict=True)])
