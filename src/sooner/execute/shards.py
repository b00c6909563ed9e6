"""Sharded parameters: rules run on the local shard, and what they need from the other shards is fetched here.

A `DTensor` (FSDP2, tensor parallelism) holds a piece of a parameter in this process. Element rules need nothing else;
sums are completed over the processes that hold the other pieces; rules for whole matrices get the whole matrix.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from torch import nn
    from torch.distributed.tensor import DTensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether the tensor is a `DTensor` (importing nothing, for if it is one its module is loaded)."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def local(tensor: Tensor) -> Tensor:
    """Return this process's piece of a tensor, sharing its memory; an ordinary tensor is its own piece."""
    return tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor, fetched from the other processes if need be."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def reshard(model: nn.Module) -> None:
    """Bring modules of FSDP2 back to their shards: while they hold whole weights, those are copies."""
    if (fsdp := sys.modules.get("torch.distributed.fsdp")) is None:  # then no module is sharded
        return
    for module in model.modules():
        if isinstance(module, fsdp.FSDPModule):
            module.reshard()


def local_gradient(p: Tensor) -> Tensor | None:
    """Return this process's piece of a parameter's gradient, laid out as the parameter's."""
    gradient = p.grad
    if gradient is None or not is_sharded(p):
        return gradient
    if gradient.placements != p.placements:  # type: ignore[attr-defined]
        gradient = gradient.redistribute(placements=p.placements)  # type: ignore[attr-defined]
    return local(gradient)


def spread_of(p: Tensor) -> Spread | None:
    """Return how a parameter is spread over processes; None if this process has all of it."""
    return Spread(p.device_mesh, tuple(p.placements)) if is_sharded(p) else None  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Spread:
    """The processes that hold a parameter and what each of them holds."""

    mesh: Any
    placements: tuple[Any, ...]

    def even(self, shape: tuple[int, ...]) -> bool:
        """Whether every process has as many whole rows of the first dimension, next to each other, or everything."""
        parts = 1
        for one, count in zip(self.placements, self.mesh.shape, strict=True):
            if not (one.is_replicate() or (type(one).__name__ == "Shard" and one.dim == 0)):
                return False
            parts *= 1 if one.is_replicate() else count
        return shape[0] % parts == 0

    def shown_flat(self, piece: Tensor, size: int) -> Tensor:
        """Return a process's part of a vector that is divided among them as rows are, all parts being as long."""
        return self._wrapped(piece, self.placements, (size,), (1,))

    def shown(self, piece: Tensor, p: Tensor) -> Tensor:
        """Return a piece that is laid out like the parameter as a `DTensor` of the parameter's shape."""
        return self._wrapped(piece, self.placements, tuple(p.shape), p.stride())

    def whole_stack(self, pieces: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return whole parameters ``[n, *shape]`` from pieces ``[n, *piece's shape]``."""
        full: Tensor = self._stacked(pieces, shape).full_tensor()
        return full

    def pieces_of_stack(self, whole: Tensor) -> Tensor:
        """Return this process's pieces of whole parameters ``[n, *shape]``."""
        from torch.distributed.tensor import Replicate

        everywhere = self._wrapped(whole, [Replicate()] * len(self.placements), tuple(whole.shape), whole.stride())
        piece: Tensor = everywhere.redistribute(placements=self._behind_stack).to_local()
        return piece

    def whole_sums(self, sums: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return the sums of all rows ``[n, rows of the whole parameter]`` from those of the pieces' rows."""
        from torch.distributed.tensor import Partial, Replicate, Shard

        def placement(one: Any) -> Any:
            if one.is_replicate():
                return Replicate()
            return Shard(1) if one.is_shard(0) and len(shape) > 1 else Partial()

        rows = shape[0] if len(shape) > 1 else 1
        placed = [placement(one) for one in self.placements]
        full: Tensor = self._wrapped(sums, placed, (len(sums), rows), (rows, 1)).full_tensor()
        return full

    def own_rows(self, numbers: Tensor, shape: tuple[int, ...], rows: int) -> Tensor:
        """Return the numbers of the rows ``[n, rows]`` that this process holds, from those of all rows."""
        if numbers.ndim != 2 or numbers.shape[1] == 1 or len(shape) < 2:
            return numbers
        first = self._first_row(shape)
        return numbers[:, first : first + rows]

    @functools.cached_property
    def _behind_stack(self) -> list[Any]:
        from torch.distributed.tensor import Shard

        return [Shard(one.dim + 1) if one.is_shard() else one for one in self.placements]

    def _stacked(self, pieces: Tensor, shape: tuple[int, ...]) -> DTensor:
        size = (len(pieces), *shape)
        strides = [1]
        for length in reversed(size[1:]):
            strides.insert(0, strides[0] * length)
        return self._wrapped(pieces, self._behind_stack, size, tuple(strides))

    def _first_row(self, shape: tuple[int, ...]) -> int:
        from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

        return int(compute_local_shape_and_global_offset(shape, self.mesh, self.placements)[1][0])

    def _wrapped(self, piece: Tensor, placements: Any, shape: tuple[int, ...], stride: tuple[int, ...]) -> DTensor:
        from torch.distributed.tensor import DTensor

        return DTensor.from_local(piece, self.mesh, placements, run_check=False, shape=shape, stride=stride)  # type: ignore[arg-type]
