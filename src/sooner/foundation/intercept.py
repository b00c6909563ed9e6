"""Seeing what a loss that somebody else wrote does: its cross-entropies, and the backward passes inside a closure.

Methods about classification (another loss, labels sampled from the model, a bound from the logits) need the logits of
the very loss that is minimised. Inside ``with CrossEntropy(handle):`` every call of
`torch.nn.functional.cross_entropy`, also from `torch.nn.CrossEntropyLoss`, goes through `handle`, so no task has to be
rewritten for them. Inside ``with BackwardHeld():`` a closure that goes back through its loss only computes it.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn import functional
from torch.optim import Optimizer
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


class BackwardHeld(TorchFunctionMode):
    """A context in which ``backward`` is noted instead of done, so that a closure can be asked for its loss alone.

    What closures do around it is without effect too: ``zero_grad`` of optimizers and modules, and a `GradScaler`'s
    ``scale`` (the loss is noted unscaled) and ``unscale_``. Compiled modules run as they are written, so that their
    loss can be differentiated in every way. `torch.autograd.grad` works as ever. Other threads notice nothing.

    Attributes:
        roots: what ``backward`` was called on, in order: 0-d, with its graph.
        zeroes: whether ``zero_grad`` was called.
    """

    def __init__(self) -> None:
        super().__init__()
        self.roots: list[Tensor] = []
        self.zeroes = False
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> BackwardHeld:
        """Begin to hold."""
        torch.clear_autocast_cache()  # casts of weights that have moved since
        if "torch._dynamo" in sys.modules:  # else nothing is compiled
            self._stack.enter_context(torch.compiler.set_stance("force_eager"))
        self._stack.enter_context(_without_effect(self))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *raised: Any) -> None:
        """Let go."""
        super().__exit__(*raised)  # type: ignore[no-untyped-call]
        self._stack.close()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Note backward passes; let everything else through."""
        given = kwargs or {}
        if func is Tensor.backward:
            self._note(args[0], args[1] if len(args) > 1 else given.get("gradient"))
            return None
        if func is torch.autograd.backward:
            tensors = [args[0]] if isinstance(args[0], Tensor) else list(args[0])
            weights = args[1] if len(args) > 1 else given.get("grad_tensors")
            weights = [weights] * len(tensors) if weights is None or isinstance(weights, Tensor) else list(weights)
            for tensor, weight in zip(tensors, weights, strict=True):
                self._note(tensor, weight)
            return None
        return func(*args, **given)

    def _note(self, root: Tensor, weight: Tensor | None) -> None:
        self.roots.append(root if weight is None else (root * weight).sum())


def _outputs(scaler: Any, outputs: Any) -> Any:
    return outputs


def _nothing(*args: Any, **more: Any) -> None:
    return None


def _zeroed(*args: Any, **more: Any) -> None:
    _local.holding[-1].zeroes = True


_EFFECTS: tuple[tuple[type, str, Callable[..., Any]], ...] = (
    (Optimizer, "zero_grad", _zeroed),
    (nn.Module, "zero_grad", _zeroed),
    (GradScaler, "scale", _outputs),
    (GradScaler, "unscale_", _nothing),
)
_local = threading.local()
_lock = threading.Lock()
_installed: list[tuple[type, str, Any]] = []
_holders = 0


@contextlib.contextmanager
def _without_effect(held: BackwardHeld) -> Iterator[None]:
    """Inside, on this thread, the methods of `_EFFECTS` do nothing to gradients."""
    global _holders
    with _lock:
        _holders += 1
        if _holders == 1:
            _install()
    _local.holding = [*getattr(_local, "holding", ()), held]
    try:
        yield
    finally:
        _local.holding = _local.holding[:-1]
        with _lock:
            _holders -= 1
            if _holders == 0:
                while _installed:
                    owner, name, original = _installed.pop()
                    setattr(owner, name, original)


def _install() -> None:
    dynamo = sys.modules.get("torch._dynamo.eval_frame")
    # a compiled module that finds hooks on all modules warns that they run twice for it
    compiled = () if dynamo is None else ((dynamo.OptimizedModule, "__call__", nn.Module.__call__),)
    for base, name, answer in (*_EFFECTS, *compiled):
        for owner in [base] if base is nn.Module else _family(base):
            if name in vars(owner):
                original = vars(owner)[name]
                _installed.append((owner, name, original))
                setattr(owner, name, _unless_held(original, answer))


def _unless_held(original: Callable[..., Any], answer: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(*args: Any, **more: Any) -> Any:
        return (answer if getattr(_local, "holding", None) else original)(*args, **more)

    return method


def _family(base: type) -> list[type]:
    """Return a class and all that derive from it."""
    children: list[type] = base.__subclasses__()
    return [base, *(one for child in children for one in _family(child))]
