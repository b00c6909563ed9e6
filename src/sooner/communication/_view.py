"""The model as it is evaluated: inside a context it holds the average of the workers' weights and buffers."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor, nn

from sooner.communication._buffers import average
from sooner.communication._flat import Flat
from sooner.communication._wire import Wire
from sooner.foundation import snapshots


@contextlib.contextmanager
def averaged(
    model: nn.Module, weights: Collection[nn.Parameter], flat: Flat, buffers: Sequence[Tensor], wire: Wire
) -> Iterator[None]:
    """Inside, the model holds the averages; afterwards every worker has its own back. It is not counted as traffic.

    Args:
        model: the model.
        weights: its parameters, empty where they are equal on all workers.
        flat: the same as one vector.
        buffers: those that have a mean, empty where there is nobody to average with.
        wire: connects the workers.
    """
    kept = [*(p.detach() for p in weights), *buffers]
    before = [t.clone() for t in kept]
    counted = wire.traffic.state_dict()
    with torch.no_grad():
        if weights:
            flat.write(wire.mean((flat.read(),))[0])
        if kept:
            average(buffers, wire)
    wire.traffic.load_state_dict(counted)
    try:
        with snapshots.shown(model) if weights else contextlib.nullcontext():
            yield
    finally:
        with torch.no_grad():
            for t, own in zip(kept, before, strict=True):
                t.copy_(own)
