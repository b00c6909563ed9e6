"""Where the tensors of a model are now: found anew by name, after a cheap look whether anything has changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter, is_
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sooner.error import SoonerError
from sooner.execute.shards import reshard
from sooner.foundation.model_names import modules_by_name

STATISTICS = ("running_mean", "running_var")
"""Buffers that belong to the weights before them, as batch normalisation names them."""

_shape, _dtype, _device = attrgetter("shape"), attrgetter("dtype"), Tensor.get_device


@dataclass(eq=False)
class Place:
    """A tensor of the model with all its names, of which tied weights have several.

    Attributes:
        tensor: the parameter or statistic.
        names: without the parts of wrappers, the first in the model's order at the head.
        holders: the modules that have it, each with the name it has there.
        moves: whether training moves it: it requires gradients, or is a statistic.
    """

    tensor: Tensor
    names: list[str]
    holders: list[tuple[nn.Module, str]]
    moves: bool


def places(model: nn.Module, part: str) -> list[Place]:
    """Return where the model's parameters and running statistics are: parameters first, each tensor once.

    Modules of FSDP2 are brought back to their shards first, for while they hold whole weights those are copies.
    Parameters without a shape yet (lazy modules) are left out.

    Args:
        model: the model.
        part: the name of who asks, for messages.

    Raises:
        SoonerError: the model is in the flat pieces of FSDP1.
    """
    reshard(model)
    parameters: dict[int, Place] = {}
    statistics: dict[int, Place] = {}
    at: dict[str, Tensor] = {}
    for plain, full, module in modules_by_name(model):
        owned: list[tuple[str, Tensor]] = [(key, p) for key, p in module._parameters.items() if p is not None]
        for key, tensor in (*owned, *_statistics(module)):
            found, moves = (parameters, tensor.requires_grad) if key in module._parameters else (statistics, True)
            if is_lazy(tensor):
                continue
            if hasattr(tensor, "_fsdp_flattened"):
                raise SoonerError(
                    f"{part}: FullyShardedDataParallel keeps flat pieces of the weights, which can't be followed by "
                    "name; shard the model with torch.distributed.fsdp.fully_shard instead"
                )
            name = f"{plain}{key}"
            if at.setdefault(name, tensor) is not tensor:
                name = f"{full}{key}"
            place = found.setdefault(id(tensor), Place(tensor, [], [], moves))
            if name not in place.names:
                place.names.append(name)
                place.holders.append((module, key))
    return [*parameters.values(), *statistics.values()]


class Seen:
    """What the model held at a look, to tell at every step whether it holds the same.

    It compares what the modules hold by identity, shape, dtype and device of the tensors that matter (what they hold is
    read from them anew, wherever it lies), and whether a frozen one is trained.

    Args:
        model: the model.
        tensors: those that matter.
        waiting: those that will matter as soon as they require gradients.
    """

    def __init__(self, model: nn.Module, tensors: Sequence[Tensor], waiting: Sequence[Tensor]) -> None:
        modules = list({id(module): module for _, _, module in modules_by_name(model)}.values())
        holders: list[Any] = [*(m._modules for m in modules), *(m._parameters for m in modules)]
        self._views = [holder.values() for holder in holders]  # each shows what is held whenever it is read
        self._held = self._holding()
        self._statistics = [(m._buffers, key, b) for m in modules for key, b in _statistics(m)]
        self._lazy = any(is_lazy(t) for t in (*self._held, *(b for _, _, b in self._statistics)))
        self._tensors, self._waiting = list(tensors), list(waiting)
        self._kinds = self._kind()

    def _holding(self) -> list[Any]:
        return [*chain.from_iterable(self._views)]

    def _kind(self) -> list[Any]:
        return [*map(_shape, self._tensors), *map(_dtype, self._tensors), *map(_device, self._tensors)]

    def still(self) -> bool:
        """Whether all is as it was."""
        held = self._holding()
        return (
            not self._lazy
            and len(held) == len(self._held)
            and all(map(is_, held, self._held))
            and all(buffers.get(key) is buffer for buffers, key, buffer in self._statistics)
            and not any(p.requires_grad for p in self._waiting)
            and self._kind() == self._kinds
        )


def _statistics(module: nn.Module) -> list[tuple[str, Tensor]]:
    found = [(key, b) for key, b in module._buffers.items() if key in STATISTICS and b is not None]
    return [(key, b) for key, b in found if is_lazy(b) or b.is_floating_point()]
