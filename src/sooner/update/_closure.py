"""What parts that evaluate the loss themselves share: the closure they need, and leaving no trace of using it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sooner.error import SoonerError
from sooner.objective import Objective

Evaluation = Callable[[], Tensor]


def required(part: str, closure: Any) -> Evaluation:
    """Return the closure, or say how to pass one.

    Raises:
        SoonerError: there is none.
    """
    if not callable(closure):
        raise SoonerError(
            f"{part} needs a closure: optimizer.step(lambda: loss_of(batch)), which returns the loss without calling "
            f"backward; got {closure!r}"
        )
    return closure  # type: ignore[no-any-return]


def evaluations(closure: Evaluation) -> list[tuple[float, Evaluation]]:
    """Return (share of the loss, function that evaluates it) for every micro-batch, so that one graph lives at a time.

    Any closure but an `Objective` counts as a single micro-batch.
    """
    if not isinstance(closure, Objective):
        return [(1.0, closure)]
    objective = closure
    shared = zip(objective.shares(), objective.batches, strict=True)
    return [(share, lambda batch=batch: objective.of(batch)) for share, batch in shared]  # type: ignore[misc]


def with_graph(part: str, evaluate: Evaluation) -> Tensor:
    """Return the loss, 0-d and with its graph, however the caller has set gradients.

    Raises:
        SoonerError: the closure returns anything else.
    """
    with torch.enable_grad():
        loss = evaluate()
    if not isinstance(loss, Tensor) or loss.ndim or not loss.requires_grad:
        shown = f"a {type(loss).__name__}"
        if isinstance(loss, Tensor):
            shown = f"a tensor of shape {tuple(loss.shape)}" if loss.ndim else "a tensor without its graph"
        raise SoonerError(
            f"{part}: the closure returned {shown}; return the 0-d loss as computed, without item(), detach() or "
            "no_grad()"
        )
    return loss


@contextlib.contextmanager
def gradients_aside(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Inside, parameters have no ``.grad``; afterwards the very tensors are back, whatever the closure did to them."""
    kept = [p.grad for p in parameters]
    for p in parameters:
        p.grad = None
    try:
        yield
    finally:
        for p, gradient in zip(parameters, kept, strict=True):
            p.grad = gradient


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in evaluation mode; afterwards every module of it is in the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def differentiable_attention() -> Any:
    """Return a context whose attention can be differentiated twice and forward; the fused kernels can't be."""
    return sdpa_kernel(SDPBackend.MATH)
