"""Several optimizers seen as one, by whoever takes any object with parameter groups, state and hooks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle


class Several:
    """What others ask of an optimizer, for a list of them.

    Args:
        optimizers: together they hold every parameter once.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.optimizers = list(optimizers)
        self._pre_hooks: OrderedDict[int, Callable[..., Any]] = OrderedDict()
        self._post_hooks: OrderedDict[int, Callable[..., Any]] = OrderedDict()

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all optimizers, the very ones; the list itself is made anew."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    @property
    def state(self) -> dict[Any, Any]:
        """What all optimizers keep for their parameters, in a dict made anew."""
        return {p: kept for optimizer in self.optimizers for p, kept in optimizer.state.items()}

    @property
    def defaults(self) -> dict[str, Any]:
        """The settings of new groups, of the first optimizer."""
        return self.optimizers[0].defaults

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(training, args, kwargs)`` before every step, with averaged and unscaled gradients in place."""
        handle = RemovableHandle(self._pre_hooks)
        self._pre_hooks[handle.id] = hook
        return handle

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(training, args, kwargs)`` after every step that a GradScaler lets through."""
        handle = RemovableHandle(self._post_hooks)
        self._post_hooks[handle.id] = hook
        return handle

    def learning_rates(self) -> list[float]:
        """Return the learning rate of every parameter group of every optimizer."""
        return [float(group["lr"]) for optimizer in self.optimizers for group in optimizer.param_groups]

    def state_bytes(self) -> int:
        """Return the bytes of optimizer state kept now (no parameters, no gradients; shared memory counted once)."""
        memory = {}
        for optimizer in self.optimizers:
            for state in optimizer.state.values():
                for value in state.values():
                    if hasattr(value, "untyped_storage"):
                        memory[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return sum(memory.values())
