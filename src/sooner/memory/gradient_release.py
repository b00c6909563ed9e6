"""Gradient release: every parameter takes its step inside backward, and its gradient is freed at once.

    as soon as p.grad is complete:   theta_p, state_p <- the optimizer's step for p alone;   p.grad is freed
    optimizer.step():                ends the step; what has a gradient still is stepped as ever

Use it when gradients are a large part of memory: with few-bit state, half-precision weights or a small batch.

Leave it when anything needs all gradients at once: accumulation, a norm over the model, several workers.

It costs no pass and no state, and a call per parameter; nothing on the wire. Gradients are never there together.

"Full Parameter Fine-tuning for Large Language Models with Limited Resources", Lv et al., 2023, arXiv 2306.09782, who
fuse plain SGD with backward; here the step is that of any rule which looks at one parameter at a time, the same numbers
as without. Their two passes for a norm over the model are left out: clip values, or rows.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from sooner.error import SoonerError
from sooner.execute.shards import is_sharded
from sooner.foundation import snapshots
from sooner.foundation.hooks import AROUND, CHANGES, Attachment, hooks_of
from sooner.foundation.released import is_released, stand_in
from sooner.foundation.unwrap import unwrapped
from sooner.part import Part

__all__ = ["GradientRelease"]


class GradientRelease(Part):
    """Lets parameters step inside backward, one by one, and frees every gradient as soon as it is used.

        sooner.memory.GradientRelease(optimizer)
        for batch in batches:                # the loop stays as it is
            loss_of(batch).backward()        # weights move here
            optimizer.step()                 # ends the step: schedules, averages and checkpoints count it
            optimizer.zero_grad()

    Call ``optimizer.step()`` once after every backward. Weights, state and state files are those of training without.
    Between backward and that call a stand-in is in ``p.grad``, so that whoever wants the gradients is told that they
    are gone. Parameters without a gradient rest, tied ones step once, and what is unfrozen later joins a step later.

    Args:
        optimizer: the optimizer, or all that move the model; wrappers are looked through.

    Raises:
        SoonerError: an optimizer that is not one of sooner's, evaluates the loss itself or looks at all gradients, or
            sharded parameters. Later, where the first gradient arrives: a rule or an attachment that needs all of them,
            or several workers.
    """

    station: ClassVar[str] = "memory"
    owns = frozenset({"backward", "gradient norm", "leaps", "length of the step"})

    def __init__(self, optimizer: Optimizer | Iterable[Optimizer]) -> None:
        given = list(optimizer) if isinstance(optimizer, list | tuple) else [optimizer]
        found = [unwrapped(one) for one in given]
        for one in found:
            _check(one)
        for one in found:
            hooks = hooks_of(one)
            if not any(isinstance(other, _Release) for other in hooks.attachments):
                hooks.add(made := _Release())
                made.watch(one)


def _check(optimizer: Any) -> None:
    name = type(optimizer).__name__
    if not hasattr(optimizer, "one_by_one"):
        raise SoonerError(
            f"gradient_release: {name} is no optimizer of sooner and steps all parameters at once; use one of "
            "sooner.update"
        )
    if optimizer.needs:
        raise SoonerError(
            f"gradient_release: {name} evaluates the loss again when the step is taken, and by then weights have "
            "moved; leave one of the two out"
        )
    if optimizer.non_finite != "pass":
        raise SoonerError(
            f"gradient_release: non_finite={optimizer.non_finite!r} looks at all gradients before a step is taken, and "
            'they are never there together; pass non_finite="pass"'
        )
    if any(is_sharded(p) for group in optimizer.param_groups for p in group["params"]):
        raise SoonerError(
            "gradient_release: parameters are sharded, and their gradients come together only after backward; leave it "
            "out, for FSDP2 frees whole gradients itself"
        )


class _Release(Attachment):
    """What hangs on one optimizer and, by hooks of autograd, on its parameters."""

    turn: ClassVar[int] = CHANGES

    def __init__(self) -> None:
        self._handles: dict[Tensor, RemovableHandle] = {}
        self._stepped: set[Tensor] = set()
        self._steps: Any = None
        self._lock = threading.Lock()  # backward has a thread for every device

    def __getstate__(self) -> dict[str, Any]:
        return {}  # a copy hangs itself on its own parameters, at its first step

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]

    def watch(self, optimizer: Any) -> None:
        """Hang on all parameters that are trained now, and on no others."""
        trained = {p for group in optimizer.param_groups for p in group["params"] if p.requires_grad and p.is_leaf}
        for p in self._handles.keys() - trained:
            self._handles.pop(p).remove()
        for p in trained - self._handles.keys():
            arrived = functools.partial(_arrived, weakref.ref(self), weakref.ref(optimizer))
            self._handles[p] = p.register_post_accumulate_grad_hook(arrived)

    @torch.no_grad()
    def arrive(self, optimizer: Any, p: Tensor) -> None:
        """Take the step of a parameter whose gradient is complete, and free that."""
        with self._lock:
            if p in self._stepped:
                raise SoonerError(
                    "gradient_release: a second gradient of one parameter came before optimizer.step(), and the first "
                    "has moved it already; call step() after every backward, without accumulation and without "
                    "reentrant checkpoints over shared weights"
                )
            if not self._stepped:
                self._begin(optimizer)
            self._steps.step(p)
            self._stepped.add(p)
            p.grad = stand_in(p)

    def _begin(self, optimizer: Any) -> None:
        """Begin a step: see whether it can be taken so, and with what."""
        _check(optimizer)
        for other in hooks_of(optimizer).attachments:
            if other is not self and other.turn != AROUND and not getattr(other, "joins", False):
                raise SoonerError(
                    f"gradient_release: a {type(other).__name__} hangs on {type(optimizer).__name__} and needs all "
                    "gradients before the step; leave one of the two out"
                )
        world = torch.distributed
        if world.is_available() and world.is_initialized() and world.get_world_size() > 1:
            raise SoonerError(
                "gradient_release: weights would move before the workers have averaged their gradients; leave it out"
            )
        self._steps = optimizer.one_by_one(self._steps)
        snapshots.settle()

    def before(self, optimizer: Optimizer, evaluation: int) -> None:
        """Take the stand-ins away: whatever has a gradient still is stepped by the optimizer itself."""
        for p in self._stepped:
            if is_released(p.grad):
                p.grad = None

    def after(self, optimizer: Optimizer, taken: bool) -> None:
        """End the step."""
        self._stepped.clear()
        self.watch(optimizer)


def _arrived(release: weakref.ref[_Release], optimizer: weakref.ref[Optimizer], p: Tensor) -> None:
    one, real = release(), optimizer()
    if one is not None and real is not None:
        one.arrive(real, p)
