"""The least of the wrappers that Accelerate, Lightning and Fabric put around optimizers, as these are written."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer


class Accelerated(Optimizer):
    """As ``accelerate.optimizer.AcceleratedOptimizer``: an `Optimizer` by class, whose constructor never ran.

    Attributes:
        due: whether `step` steps at all; Accelerate does not while gradients are accumulated.
    """

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        self.due = True

    @property
    def state(self) -> Any:  # type: ignore[override]
        return self.optimizer.state

    @property
    def param_groups(self) -> Any:  # type: ignore[override]
        return self.optimizer.param_groups

    @property
    def defaults(self) -> Any:  # type: ignore[override]
        return self.optimizer.defaults

    def zero_grad(self, set_to_none: bool | None = None) -> None:
        self.optimizer.zero_grad(set_to_none=True if set_to_none is None else set_to_none)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        if self.due:
            self.optimizer.step(closure)


class Lightning:
    """As ``lightning.pytorch.core.optimizer.LightningOptimizer``: of a class made up of its own and the optimizer's."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        inside = type(optimizer)
        self.__class__ = type("Lightning" + inside.__name__, (self.__class__, inside), {})

    @property
    def optimizer(self) -> Any:
        return self._optimizer

    def step(self, closure: Any = None, **more: Any) -> Any:
        return self._optimizer.step(closure, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._optimizer, name)
