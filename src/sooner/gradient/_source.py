"""What the parts that find gradients themselves have in common: they answer `Training.backward`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sooner.error import SoonerError
from sooner.objective import Objective
from sooner.part import Part


class GradientSource(Part):
    """Base of the parts that find the gradients in place of plain backpropagation; a recipe has at most one."""

    station: ClassVar[str] = "gradient"
    owns = frozenset({"backward"})
    order: ClassVar[int] = 10  # before anything is done to the gradients

    def backward(self, objective: Objective) -> Tensor:
        """Put the gradients of the step into ``.grad`` and return the mean loss, 0-d and without its graph."""
        raise TypeError(f"{type(self).__name__} defines no backward")


def asked(part: str, objective: Any) -> None:
    """Refuse anything but an `Objective` in its place.

    Raises:
        SoonerError: says how to make one.
    """
    if not isinstance(objective, Objective):
        raise SoonerError(
            f"{part} needs sooner.objective.Objective(model, loss, [batch]), with loss(model, batch), to know what to "
            f"differentiate; got {objective!r}"
        )


def trainable(model: nn.Module) -> list[Tensor]:
    """Return the parameters that want a gradient."""
    return [p for p in model.parameters() if p.requires_grad]


def fill(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Add the gradients to ``.grad``, as backpropagation does; None adds nothing."""
    for p, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            p.grad = gradient if p.grad is None else p.grad + gradient


def normalisations(model: nn.Module) -> dict[str, _BatchNorm]:
    """Return the batch normalisations that keep running statistics, by name."""
    found = {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm)}
    return {name: m for name, m in found.items() if m.track_running_stats and m.running_mean is not None}


@contextlib.contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Inside, batch normalisation works as in training but its running statistics stay as they are."""
    training = [m for m in normalisations(model).values() if m.training]
    try:
        for m in training:
            m.track_running_stats = False  # PyTorch then normalises by the batch and updates nothing
        yield
    finally:
        for m in training:
            m.track_running_stats = True
