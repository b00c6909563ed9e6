"""Compression between the replicas of a sharded model (FSDP2): only the slow hop across nodes goes through a codec."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from sooner.communication._codec import Codec
from sooner.communication._exchange import Exchange
from sooner.communication._group import Group
from sooner.communication._memory import Memory
from sooner.error import SoonerError
from sooner.foundation.layout import Layout


class FSDPReplicas:
    """Averages the sharded gradients of a `fully_shard` model over a second process group.

    Shard the model over the fast group alone (a node), and give the group that connects equal shards of different nodes
    here. FSDP reduces and scatters inside of the node as ever; what it has then, a flat vector per module, crosses the
    slow hop through the codec, in the order of the backward pass, the same on all ranks. The shards are made equal to
    those of the group's first rank.

    The model may be moved or cast afterwards. Where other parameters of a module are trained than before, what codec
    and memory keep for it begins anew without a memory, and is refused with one.

    Args:
        model: with `fully_shard` applied to it, and to whichever of its modules.
        group: the process group of the ranks that hold the same shard.
        codec: what crosses the hop, one that works on plain vectors; None for the numbers as they are.
        memory: what to do about what is lost.

    Raises:
        SoonerError: no module is sharded, or the codec needs whole matrices, which no rank has.
    """

    def __init__(self, model: nn.Module, group: Any, codec: Codec | None = None, memory: Memory | None = None) -> None:
        self.codec, self.memory, self.wire = codec, memory, Group(group)
        if codec is not None and codec.needs_matrices:
            raise SoonerError(
                f"{type(codec).__name__} needs whole matrices, and every rank has a shard of them; use a codec of "
                "plain vectors, such as top_k or fp16"
            )
        modules = [(name, module) for name, module in model.named_modules() if isinstance(module, FSDPModule)]
        if not modules:
            raise SoonerError("no module of this model is sharded; apply torch.distributed.fsdp.fully_shard first")
        self.exchanges: dict[str, Exchange] = {}
        self._loaded: dict[str, Any] = {}
        self._kinds: dict[str, tuple[int, torch.dtype, torch.device]] = {}
        with torch.no_grad():
            for p in model.parameters():
                local = p.to_local() if isinstance(p, DTensor) else p
                torch.distributed.broadcast(local.detach(), group=group, group_src=0)
        for name, module in modules:
            module.set_all_reduce_hook(functools.partial(self._average, name))

    def _average(self, name: str, shard: Tensor) -> None:
        """Replace a module's vector of gradients (numbers of this shard,) by its mean over the replicas."""
        if name not in self.exchanges:
            layout = Layout({name: (shard.numel(),)})
            self.exchanges[name] = Exchange(layout, self.wire, self.codec, self.memory)
            if name in self._loaded:
                self.exchanges[name].load_state_dict(self._loaded.pop(name))
        exchange = self.exchanges[name]
        v = shard.to(torch.promote_types(shard.dtype, torch.float32))
        if v.numel() != exchange.layout.size and exchange.state.get("memory"):
            raise SoonerError(
                f"module {name or '(the model itself)'} has {v.numel()} gradients on this rank now and had "
                f"{exchange.layout.size} before, which {type(exchange.memory).__name__} remembers; freeze and unfreeze "
                "before FSDPReplicas is made, or leave the memory out"
            )
        if (v.numel(), v.dtype, v.device) != self._kinds.setdefault(name, (v.numel(), v.dtype, v.device)):
            exchange.follow(Layout({name: (v.numel(),)}), v)
            self._kinds[name] = (v.numel(), v.dtype, v.device)
        shard.copy_(exchange(v))

    def state_dict(self) -> dict[str, Any]:
        """Return what this rank must keep to go on bit for bit."""
        return {name: exchange.state_dict() for name, exchange in self.exchanges.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned on the same rank."""
        self.exchanges.clear()
        self._kinds.clear()
        self._loaded = dict(state)
