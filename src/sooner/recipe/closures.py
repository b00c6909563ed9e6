"""Which optimizers evaluate the loss themselves, and the closure that PyTorch's own ones want for it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.optim import Optimizer

from sooner.objective import Objective
from sooner.part import Part
from sooner.recipe.slots import required_arguments


def asks(optimizer: Optimizer) -> bool:
    """Whether the optimizer evaluates the loss itself."""
    needs = optimizer.needs if isinstance(optimizer, Part) else required_arguments(type(optimizer))
    return "closure" in needs


def torch_closure(optimizer: Optimizer, objective: Objective) -> Callable[[], float]:
    """Return a closure as PyTorch's own optimizers expect it: one that goes back through the loss itself."""

    def closure() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad():
            loss = objective()
        torch.autograd.backward(loss)
        return float(loss.detach())

    return closure
