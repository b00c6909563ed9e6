"""A closure that evaluates the loss and forgets to go back through it: the step would silently move nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from sooner.error import SoonerError


def refuse_unheard_loss(loss: Any, optimizers: Iterable[Optimizer], name: str) -> None:
    """Refuse the loss of a closure after which no parameter has a gradient, though the loss depends on some.

    Args:
        loss: what the closure returned.
        optimizers: whose parameters should have gradients now.
        name: who steps, for the message.

    Raises:
        SoonerError: nobody called ``backward``.
    """
    if not (isinstance(loss, Tensor) and loss.requires_grad):
        return
    if any(p.grad is not None for one in optimizers for group in one.param_groups for p in group["params"]):
        return
    raise SoonerError(
        f"{name}: the closure returned a loss, and no parameter has a gradient; call loss.backward() in the closure, "
        "before it returns"
    )
