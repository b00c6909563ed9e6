"""What a loss may return: a mean, 0-d; or ``(sum, count)``, so that every token counts alike in a step."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from sooner.error import SoonerError

Count: TypeAlias = float | Tensor
Found: TypeAlias = Tensor | tuple[Tensor, Count]
"""What a loss returns: its mean, or what it has added up and of how much."""


def measured(found: Any, name: str = "the loss") -> tuple[Tensor, Count | None]:
    """Return what a loss has returned as (sum, count), or as (mean, None).

    Args:
        found: a 0-d tensor, or a pair of it and a count: a number, or a 0-d tensor that may stay on its device.
        name: of the loss, for messages.

    Raises:
        SoonerError: it is a tuple, but no such pair.
    """
    if not isinstance(found, tuple | list):
        return found, None
    total: Any
    count: Any
    total, count = found if len(found) == 2 else (None, None)
    if not isinstance(total, Tensor) or total.ndim:
        shown = ", ".join(f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__ for x in found)
        raise SoonerError(f"{name} returned a {type(found).__name__} of {shown}; return (sum, count) or a mean, 0-d")
    if isinstance(count, Tensor) and count.ndim == 0 and not count.is_complex():
        return total, count.detach().to(exact(count))
    if _is_number(count) and 0 <= count < math.inf:
        return total, float(count)
    shown = f"a tensor of shape {tuple(count.shape)}" if isinstance(count, Tensor) else repr(count)
    raise SoonerError(
        f"{name} returned {shown} as the count of its sum; return the number of tokens or samples that were added up, "
        "a number of at least 0 or a 0-d tensor"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def mean_of(found: Any, name: str = "the loss") -> Tensor:
    """Return the mean that a loss has found, 0-d; 0 where it has counted nothing.

    Raises:
        SoonerError: as `measured`.
    """
    return mean(*measured(found, name))


def positive(count: Count) -> Count:
    """Return what to divide a sum by: its count, or 1 for the sum of nothing. Waits for no device."""
    if isinstance(count, Tensor):
        return torch.where(count > 0, count, 1)
    return count if count > 0 else 1.0


def exact(beside: Tensor) -> torch.dtype:
    """Return the widest type that the device of a tensor has: float64 nearly everywhere."""
    return torch.float32 if beside.device.type == "mps" else torch.float64


def mean(total: Tensor, count: Count | None) -> Tensor:
    """Return the mean of what `measured` returned, in the type of the sum."""
    return total if count is None else (total / positive(count)).to(total.dtype)


def together(beside: Tensor, *values: Count) -> Tensor:
    """Return numbers in one exact tensor on the device of another."""
    return torch.stack([torch.as_tensor(value, device=beside.device).to(exact(beside)) for value in values])


def alike(counts: Sequence[Count | None]) -> list[Count]:
    """Return the counts, none where all losses are means.

    Raises:
        SoonerError: some are counts and others are not.
    """
    known = [count for count in counts if count is not None]
    if known and len(known) < len(counts):
        raise SoonerError(
            "the loss returned (sum, count) for one micro-batch or term and a single number for another; return one or "
            "the other for all"
        )
    return known


_said: set[str] = set()


def check_sizes(batches: Sequence[Any]) -> None:
    """Warn once in a process that a mean over unequal micro-batches is no mean over what they hold."""
    if len(batches) == 1 or _said:
        return
    leaves = [next((x for x in pytree.tree_leaves(b) if isinstance(x, Tensor)), None) for b in batches]
    sizes = sorted({leaf.numel() for leaf in leaves if leaf is not None})
    if len(sizes) < 2:
        return
    _said.add("unequal")
    warnings.warn(
        f"the micro-batches of a step have from {sizes[0]} to {sizes[-1]} elements and the loss is a mean over each, "
        "so that what is in a small one counts more; let the loss return (sum, count) to have everything count alike",
        stacklevel=3,
    )
