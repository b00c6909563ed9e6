"""Whether tensors are laid out as they were before, at the price of one call for all of them."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

GUARDS: Any = None
"""torch.compile's own check, which takes 0.07 microseconds per tensor where attributes in Python take 0.4."""
with contextlib.suppress(ImportError):
    from torch._C._dynamo.guards import TensorGuards

    GUARDS = TensorGuards


class Alike:
    """Tells whether tensors have the type, dtype, device, shape and strides that these had.

    It may say no where they have, as in another autograd mode; never yes where they have not. Memory is not compared.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._count = len(tensors)
        self._check: Callable[..., bool] = _by_attributes(tensors)
        if GUARDS is not None and tensors:
            self._check = GUARDS(*tensors, dynamic_dims_sizes=None, dynamic_dims_strides=None).check

    def __call__(self, tensors: Sequence[Tensor]) -> bool:
        """Compare with other tensors."""
        return len(tensors) == self._count and bool(self._check(*tensors))


_described = operator.attrgetter("dtype", "device", "shape", "requires_grad")


def _by_attributes(tensors: Sequence[Tensor]) -> Callable[..., bool]:
    def described(some: Sequence[Any]) -> list[Any]:
        return [*map(type, some), *map(_described, some), *map(Tensor.stride, some)]

    before = described(tensors)
    return lambda *others: described(others) == before
