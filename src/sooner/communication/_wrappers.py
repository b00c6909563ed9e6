"""Wrappers that average gradients themselves (DistributedDataParallel), found whenever and wherever they are made.

Who is wrapped twice sends everything twice. Frameworks wrap a model on their own, often after the user has attached
something to it, so it is not enough to look at the model that is passed.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.nn.parallel import DistributedDataParallel

from sooner.communication._group import Group
from sooner.communication._wire import Wire

_known: weakref.WeakSet[DistributedDataParallel] = weakref.WeakSet()
_listening: list[Any] = []


def listen() -> None:
    """Find the wrappers that exist, and from now on hear of every new one; nothing is changed in them."""
    if _listening:
        return
    kinds = {DistributedDataParallel}
    while more := {sub for kind in kinds for sub in kind.__subclasses__()} - kinds:
        kinds |= more
    _known.update(one for one in gc.get_objects() if type(one) in kinds)
    _listening.append(register_module_module_registration_hook(_note))


def _note(owner: nn.Module, name: str, module: nn.Module | None) -> None:
    if isinstance(owner, DistributedDataParallel):
        _known.add(owner)


def averaging(model: nn.Module, wire: Wire) -> bool:
    """Whether the model is such a wrapper, or holds one, that averages over workers of the wire."""
    wrappers = [m for m in model.modules() if isinstance(m, DistributedDataParallel)]
    return any(one.require_backward_grad_sync and _overlap(one, wire) for one in wrappers)


class Wrappers:
    """Says whether a wrapper has averaged the gradients of some parameters since it was last asked.

    Args:
        wire: connects the workers.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._seen: weakref.WeakKeyDictionary[DistributedDataParallel, Sequence[int]] = weakref.WeakKeyDictionary()
        listen()
        for one in _known:
            self._seen[one] = _stamps(one)

    def averaged(self, parameters: Iterable[Tensor]) -> bool:
        """Whether there was a backward pass since, in which a wrapper averaged one of these."""
        if not _known:
            return False
        ours = set(map(id, parameters))
        ran = [self._ran(one) for one in _known if any(id(p) in ours for p in one.parameters())]
        return any(ran)

    def _ran(self, one: DistributedDataParallel) -> bool:
        before, now = self._seen.get(one, ()), _stamps(one)
        self._seen[one] = now
        return any(now) and now != before and _overlap(one, self._wire)


def _stamps(one: DistributedDataParallel) -> list[int]:
    """Return when each gradient was ready in the last backward pass that was averaged; zeros before the first."""
    reducer = getattr(one, "reducer", None)
    return [] if reducer is None else list(reducer.get_backward_stats())


def _overlap(one: DistributedDataParallel, wire: Wire) -> bool:
    """Whether it connects this worker with another one that the wire connects it with too."""
    if not isinstance(wire, Group) or wire.size == 1:
        return False
    theirs = set(dist.get_process_group_ranks(one.process_group))
    return len(theirs & set(dist.get_process_group_ranks(wire.group or dist.group.WORLD))) > 1
