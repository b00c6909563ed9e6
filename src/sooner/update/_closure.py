"""What parts that evaluate the loss themselves share: how they are given it, and leaving no trace of evaluating it."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parallel import DistributedDataParallel

from sooner.error import SoonerError
from sooner.execute.shards import is_sharded
from sooner.foundation.intercept import BackwardHeld
from sooner.objective import Objective, mean_of

Evaluation = Callable[[], Tensor]


def required(part: str, closure: Any, call: str = "") -> Evaluation:
    """Return the closure, or say how to pass one: to `call`, or else to an optimizer's step.

    Raises:
        SoonerError: there is none.
    """
    if not callable(closure):
        observe = "" if call else ", or before the step optimizer.observe(lambda: loss_of(batch))"
        raise SoonerError(
            f"{part} needs a closure: {call or 'optimizer.step'}(lambda: loss_of(batch)), which returns the loss"
            f"{observe}; got {closure!r}"
        )
    return closure  # type: ignore[no-any-return]


class NoLossError(SoonerError):
    """A closure returned None and went back through nothing, as Lightning's does for a batch that it skips."""


class Loss:
    """A closure as a function that only returns its loss, with the graph; what it does to gradients is held back.

    Attributes:
        goes_back: whether the closure called backward when it was evaluated last.
        adds: whether it did so without ``zero_grad``, so that it adds to the gradients that are there.
    """

    def __init__(self, part: str, closure: Callable[[], Any]) -> None:
        self.part, self.closure = part, closure
        self.goes_back = self.adds = False

    def __call__(self) -> Tensor:
        """Return the sum of what backward was called on; where it was not called, what the closure returns."""
        with BackwardHeld() as held:
            loss = self.closure()
        self.goes_back = bool(held.roots)
        self.adds = self.goes_back and not held.zeroes
        if held.roots:
            return functools.reduce(torch.add, held.roots)
        if loss is None:
            raise NoLossError(
                f"{self.part}: the closure returned a NoneType; return the 0-d loss as computed, without item(), "
                "detach() or no_grad()"
            )
        return loss  # type: ignore[no-any-return]  # whatever it is, `with_graph` looks at it


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
        found: Any = evaluate()
        loss = mean_of(found, f"{part}: the closure") if isinstance(found, tuple) else found
    if not isinstance(loss, Tensor) or loss.ndim or not loss.requires_grad:
        shown = f"a {type(loss).__name__}"
        if isinstance(loss, Tensor):
            shown = f"a tensor of shape {tuple(loss.shape)}" if loss.ndim else "a tensor without its graph"
        raise SoonerError(
            f"{part}: the closure returned {shown}; return the 0-d loss as computed, without item(), detach() or "
            "no_grad()"
        )
    return loss


def dense(part: str, gradients: Sequence[Tensor | None]) -> None:
    """Refuse sparse gradients.

    Raises:
        SoonerError: one of them is.
    """
    if any(g is not None and g.layout != torch.strided for g in gradients):
        raise SoonerError(f"{part} takes no sparse gradients; build the embedding with sparse=False")


@contextlib.contextmanager
def aside(part: str, parameters: Sequence[Tensor]) -> Iterator[None]:
    """Inside, parameters have no ``.grad``; afterwards the very tensors are back, whatever the closure did to them.

    So it is for the parameters of all modules that are called inside, also those of other optimizers. Workers who share
    the model by DDP or FSDP2 don't average anything meanwhile, see `averaged`.

    Raises:
        SoonerError: what is evaluated inside can't be differentiated as the part wants it; says what to change.
    """
    kept = [(p, p.grad) for p in parameters]
    for p in parameters:
        p.grad = None

    def note(module: nn.Module) -> None:
        _workers.note(module)
        for p in module._parameters.values():
            if p is not None and p.is_leaf and p.grad is not None:
                kept.append((p, p.grad))
                p.grad = None

    try:
        with _workers.sought(), _before_every_module(note):
            yield
    except (RuntimeError, NotImplementedError) as error:
        for signs, remedy in _REMEDIES:
            if any(sign in str(error) for sign in signs):
                raise SoonerError(f"{part} {remedy}") from error
        raise
    finally:
        for p, gradient in kept:
            p.grad = gradient


@contextlib.contextmanager
def _before_every_module(look: Callable[[nn.Module], None]) -> Iterator[None]:
    """Inside, `look` sees every module that this thread calls, before it is run."""
    thread = threading.get_ident()

    def hook(module: nn.Module, inputs: Any) -> None:
        if threading.get_ident() == thread:
            look(module)

    handle = register_module_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


class _Workers(threading.local):
    """The workers who share the model that is called, each with a batch of its own; found when it is called."""

    group: dist.ProcessGroup | None = None

    def __init__(self) -> None:
        self._silent: list[DistributedDataParallel] = []
        self._gathered: list[Any] = []

    def note(self, module: nn.Module) -> None:
        """See whether a module is one that workers share, and keep it from averaging."""
        if isinstance(module, DistributedDataParallel):
            self.group = module.process_group
            if module.require_backward_grad_sync:
                module.require_backward_grad_sync = False
                self._silent.append(module)
        elif hasattr(module, "reshard") and any(is_sharded(p) for p in module.parameters()):
            self._gathered.append(module)
            mesh: Any = next(p for p in module.parameters() if is_sharded(p)).device_mesh  # type: ignore[attr-defined]
            if mesh.ndim > 1:
                raise SoonerError(
                    "the loss is evaluated by a part that knows workers in one dimension, and these weights are "
                    f"sharded over a mesh of {mesh.ndim}; use another part, or fully_shard over one dimension"
                )
            self.group = mesh.get_group()

    @contextlib.contextmanager
    def sought(self) -> Iterator[None]:
        """Inside, modules may be noted; afterwards they are as before."""
        before = self.group, self._silent, self._gathered
        self._silent, self._gathered = [], []
        try:
            yield
        finally:
            for module in self._silent:
                module.require_backward_grad_sync = True
            for module in self._gathered:
                module.reshard()  # what was gathered for a loss that nobody goes back through would outlive the step
            self.group, self._silent, self._gathered = before


_workers = _Workers()


def number_of_workers() -> int:
    """Return how many workers share the model that was called inside `aside`; 1 where nobody else does."""
    return 1 if _workers.group is None else dist.get_world_size(_workers.group)


def averaged(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the mean of tensors over the workers who share the model, so that all of them take the same step."""
    if number_of_workers() == 1:
        return list(tensors)
    found = [t.detach().clone(memory_format=torch.contiguous_format) for t in tensors]
    for t in found:
        dist.all_reduce(t, group=_workers.group)
    return [t / number_of_workers() for t in found]


def largest(number: Tensor) -> Tensor:
    """Return the largest of a 0-d tensor over the workers who share the model."""
    if number_of_workers() > 1:
        number = number.clone()
        dist.all_reduce(number, dist.ReduceOp.MAX, group=_workers.group)
    return number


@contextlib.contextmanager
def workers_noticed() -> Iterator[None]:
    """Inside, `averaged` and `largest` know the workers who share a model that is called."""
    with _workers.sought(), _before_every_module(_workers.note):
        yield


_REMEDIES = (
    (
        ("use_reentrant", "Checkpointing is not compatible", "CheckpointFunction"),
        "differentiates the loss in a way that reentrant checkpointing does not allow; checkpoint with "
        "use_reentrant=False (Hugging Face: gradient_checkpointing_kwargs={'use_reentrant': False})",
    ),
    (
        ("torch.utils.checkpoint",),
        "looks into the loss, which is checkpointed and so computed again outside of that look; checkpoint the model's "
        "blocks, not the cross-entropy",
    ),
    (
        ("double backward", "donated buffers", "backward pass is not implemented for compiled"),
        "can't differentiate a compiled function in this way; let the closure call the plain model (model._orig_mod)",
    ),
    (
        ("CuDNN RNN", "_cudnn_rnn_backward"),
        "needs a second derivative, which cuDNN's recurrent layers lack; evaluate the loss inside "
        "torch.backends.cudnn.flags(enabled=False)",
    ),
    (
        ("sparse", "Sparse"),
        "takes no sparse gradients; build the embedding with sparse=False",
    ),
    (
        ("is not implemented", "once_differentiable", "does not support it because it has not been implemented"),
        "needs a derivative of a derivative, or a forward-mode one, which an operation of this model lacks; use eager "
        "attention and plain PyTorch operations, or another method",
    ),
)


@contextlib.contextmanager
def unnoticed(part: str, parameters: Sequence[Tensor]) -> Iterator[None]:
    """Inside, the loss may be evaluated; afterwards gradients, random numbers and buffers are as they were.

    Buffers are those of modules in training mode, such as the running statistics of batch normalisation.

    Raises:
        SoonerError: as `aside`.
    """
    buffers: dict[tuple[nn.Module, str], tuple[Tensor, Tensor]] = {}
    numbers = RandomNumbers(parameters)

    def note(module: nn.Module) -> None:
        for name, buffer in module._buffers.items() if module.training else ():
            if buffer is not None and (module, name) not in buffers:
                buffers[module, name] = buffer, buffer.detach().clone()

    with aside(part, parameters), _before_every_module(note):
        try:
            yield
        finally:
            numbers.rewind()
            for (module, name), (buffer, before) in buffers.items():
                module._buffers[name] = buffer
                buffer.data.copy_(before)  # graphs of the evaluation are not disturbed


class RandomNumbers:
    """Where the random numbers of the CPU and of the parameters' devices are, to come back to."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        devices = sorted({p.device for p in parameters if p.device.type not in ("cpu", "meta")}, key=str)
        self._cpu = torch.get_rng_state()
        self._others = [(d, torch.get_device_module(d).get_rng_state(d)) for d in devices]

    def rewind(self) -> None:
        """Let the numbers that were drawn since come again."""
        torch.set_rng_state(self._cpu)
        for device, state in self._others:
            torch.get_device_module(device).set_rng_state(state, device)


def differentiable_attention() -> Any:
    """Return a context whose attention can be differentiated twice and forward; the fused kernels can't be."""
    return sdpa_kernel(SDPBackend.MATH)
