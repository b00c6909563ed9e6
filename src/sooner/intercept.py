"""Seeing and replacing the cross-entropy of a loss that somebody else wrote.

Methods about classification (another loss, labels sampled from the model, a bound from the logits) need the logits of
the very loss that is minimised. Inside ``with CrossEntropy(handle):`` every call of
`torch.nn.functional.cross_entropy`, also from `torch.nn.CrossEntropyLoss`, goes through `handle`, so no task has to be
rewritten for them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_SIGNATURE = inspect.signature(functional.cross_entropy)


class CrossEntropy(TorchFunctionMode):
    """A context in which `handle` answers for cross-entropy.

    Args:
        handle: called as ``handle(logits, targets, options)`` with logits ``[n, classes, ...]`` or ``[classes]``,
            targets as the loss got them, and the other arguments of `functional.cross_entropy` by name as far as
            given (weight, ignore_index, reduction, label_smoothing, and two old ones); returns the loss. Inside it
            cross-entropy is the ordinary one.

    Attributes:
        calls: how many calls were handled since the context was made.
    """

    def __init__(self, handle: Callable[[Tensor, Tensor, dict[str, Any]], Tensor]) -> None:
        super().__init__()
        self._handle = handle
        self.calls = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Answer for cross-entropy; let everything else through."""
        if func is not functional.cross_entropy:
            return func(*args, **(kwargs or {}))
        given = dict(_SIGNATURE.bind(*args, **(kwargs or {})).arguments)
        self.calls += 1
        return self._handle(given.pop("input"), given.pop("target"), given)
