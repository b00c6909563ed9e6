"""What parts hang on the step of an optimizer: one pair of hooks for all of them, in one order, whatever came first.

Before the step, behind everybody else's hooks (among them the averaging over workers), the scale of a fused GradScaler
step is taken off the gradients; then come who is around the step, who looks at gradients and who changes them. After
the step the same parts hear, in turned order, whether it was taken: a step that a GradScaler or the optimizer itself
leaves out counts for nobody.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from sooner.error import SoonerError
from sooner.execute.shards import local
from sooner.foundation.unwrap import unwrapped
from sooner.objective import Objective

AROUND, LOOKS, CHANGES = range(3)
"""When an attachment's turn is: around all else, at the gradients as they are, or to put others in their place."""

UNSEEN = -1
"""Said of gradients that an optimizer finds inside its own step."""

_NAME = "sooner"
"""Key of our hooks among the optimizer's own, whose keys are numbers, and the attribute that holds the `Hooks`."""


class Attachment:
    """What hangs on an optimizer's step. Subclasses override what they need.

    Attributes:
        turn: `AROUND`, `LOOKS` or `CHANGES`.
    """

    turn: ClassVar[int]

    def undo(self, optimizer: Optimizer) -> None:
        """Leave nothing behind of a step that did not end, or of the evaluation of a closure before this one."""

    def before(self, optimizer: Optimizer, evaluation: int) -> None:
        """Do what is to be done before the step moves weights, with the gradients in ``.grad``.

        Args:
            optimizer: the one that is about to step.
            evaluation: 0 where the gradients were there before the step, else how often its closure has found some;
                `UNSEEN` where the optimizer makes its gradients itself of what the closure returns.
        """

    def after(self, optimizer: Optimizer, taken: bool) -> None:
        """Do what is to be done after the step; `taken` says whether it moved anything."""


class Hooks:
    """What hangs on one optimizer.

    Attributes:
        attachments: in the order of their turns.
        taken: steps taken since there were hooks.
        skipped: whether the last step was left out.
        paced: None, or where a schedule follows the steps really taken, whether one was taken since its last one.
    """

    def __init__(self) -> None:
        self.attachments: list[Attachment] = []
        self.taken = 0
        self.skipped = False
        self.paced: bool | None = None
        self._open = False
        self._overflow = False
        self._scale: Tensor | None = None

    def add(self, attachment: Attachment) -> None:
        """Let it take part, behind those of the same turn."""
        self.attachments = sorted([*self.attachments, attachment], key=lambda one: one.turn)

    def remove(self, attachment: Attachment) -> None:
        """Let it take no part any more."""
        self.attachments = [one for one in self.attachments if one is not attachment]

    def before(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Prepare the step; where it begins with a closure, prepare it behind every call of that."""
        self._undo(optimizer)
        self._open = True
        self._overflow = overflows(optimizer)
        if self._overflow:
            return None
        if getattr(optimizer, "tells_gradients", False):  # only it knows when a closure has found them
            optimizer.gradients_ready = functools.partial(self._ready, optimizer)  # type: ignore[attr-defined]
            return None
        _, *given = args  # the first one is the optimizer
        closure = kwargs.get("closure", given[0] if given else None)
        if closure is None or isinstance(closure, Objective):
            self._ready(optimizer)
            return None
        if "closure" in getattr(optimizer, "needs", ()):
            self._prepare(optimizer, UNSEEN)
            return None
        evaluations = 0

        def prepared() -> Any:
            nonlocal evaluations
            self._undo(optimizer)
            loss = closure()
            evaluations += 1
            self._prepare(optimizer, evaluations)
            return loss

        return ((optimizer, prepared, *given[1:]), kwargs) if given else (args, {**kwargs, "closure": prepared})

    def _ready(self, optimizer: Optimizer) -> None:
        """Prepare the step with the gradients that are there, without a scale."""
        if any(a.turn != AROUND for a in self.attachments):
            scale = take_off_scale(optimizer)
            self._scale = scale if self._scale is None else self._scale
        self._prepare(optimizer, 0)

    def _undo(self, optimizer: Optimizer) -> None:
        for attachment in self.attachments:
            attachment.undo(optimizer)

    @torch.no_grad()
    def _prepare(self, optimizer: Optimizer, evaluation: int) -> None:
        for attachment in self.attachments:
            attachment.before(optimizer, evaluation)

    def after(self, optimizer: Optimizer) -> None:
        """Tell the attachments how the step has ended."""
        if not self._open:
            return  # the step of a subclass around that of its base, for which torch calls hooks twice
        self._open = False
        if self._scale is not None:
            optimizer.grad_scale = self._scale  # type: ignore[attr-defined]  # who has set it takes it away
            self._scale = None
        taken = not self._overflow and getattr(optimizer, "last_step_taken", True)
        self.skipped = not taken
        self.taken += taken
        if self.paced is not None:
            self.paced = self.paced or taken
        for attachment in reversed(self.attachments):
            attachment.after(optimizer, taken)


def hooks_of(optimizer: Optimizer) -> Hooks:
    """Return what hangs on the optimizer inside all wrappers; the first call hangs the hooks themselves.

    They stay the last ones, so that whatever is registered later is also through with the gradients before them, and
    they go along where the optimizer is copied or pickled, which those of torch do not.

    Raises:
        SoonerError: an optimizer that has no hooks.
    """
    real: Any = unwrapped(optimizer)
    known: Hooks | None = vars(real).get(_NAME)
    if known is not None:
        return known
    if not hasattr(real, "_optimizer_step_pre_hooks"):
        raise SoonerError(
            f"{type(real).__name__} has no hooks for its step, so nothing can be attached to it; pass the "
            "torch.optim.Optimizer itself, before another library takes it over"
        )
    vars(real).update(_attributes(real, Hooks(), real._optimizer_step_pre_hooks, real._optimizer_step_post_hooks))
    return vars(real)[_NAME]  # type: ignore[no-any-return]


def _attributes(real: Any, hooks: Hooks, before: Any, after: Any) -> dict[str, Any]:
    before[_NAME], after[_NAME] = _before_step, _after_step
    return {
        _NAME: hooks,
        "_optimizer_step_pre_hooks": before,
        "_optimizer_step_post_hooks": after,
        "register_step_pre_hook": functools.partial(_register_ahead, real),
        "__getstate__": functools.partial(_state, real),
    }


def _register_ahead(optimizer: Any, hook: Any) -> Any:
    handle = type(optimizer).register_step_pre_hook(optimizer, hook)
    optimizer._optimizer_step_pre_hooks.move_to_end(_NAME)
    return handle


def _state(optimizer: Any) -> dict[str, Any]:
    """Return what copies and pickles of the optimizer consist of: as torch has it, and what hangs on it."""
    kind: Any = type(optimizer)
    own: dict[str, Any] = kind.__getstate__(optimizer)
    return {**own, **_attributes(optimizer, vars(optimizer)[_NAME], OrderedDict(), OrderedDict())}


def _before_step(optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return vars(optimizer)[_NAME].before(optimizer, args, kwargs)


def _after_step(optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    vars(optimizer)[_NAME].after(optimizer)


def steps_taken(optimizer: Optimizer) -> int:
    """Return how many steps the optimizer has taken since it was first asked; those left out don't count."""
    return hooks_of(optimizer).taken


def due(optimizer: Optimizer) -> bool:
    """Whether a schedule may advance now: not behind a step that was left out."""
    real = unwrapped(optimizer)
    hooks: Hooks | None = vars(real).get(_NAME)
    if hooks is None:
        return getattr(real, "last_step_taken", True)
    if hooks.paced is None:
        return not hooks.skipped
    now, hooks.paced = hooks.paced, False
    return now


def overflows(optimizer: Any) -> bool:
    """Whether a GradScaler has found infinities or NaN and lets the fused step that follows do nothing.

    On a GPU this waits for the device, as a GradScaler itself does where steps are not fused.
    """
    found: Tensor | None = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)


@torch.no_grad()
def take_off_scale(optimizer: Any) -> Tensor | None:
    """Divide the gradients by the scale that a GradScaler gave for a fused step, which is told a scale of 1 instead.

    The fused step would do the same to ``.grad``, but only after everybody has looked.

    Returns:
        The scale, or None where there is none.

    Raises:
        SoonerError: float16 gradients, which lose their small entries without the scale.
    """
    scale: Tensor | None = getattr(optimizer, "grad_scale", None)
    if scale is None:
        return None
    found = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if any(g.dtype == torch.float16 for g in found):
        raise SoonerError(
            f"{type(optimizer).__name__}: float16 gradients lose their small entries when a GradScaler's scale is "
            "taken off before they are clipped or logged; keep the weights in float32 and use autocast"
        )
    wide = scale if scale.device.type == "mps" else scale.double()
    inverse = wide.reciprocal().float()  # as GradScaler.unscale_ has it
    pieces: dict[torch.device, list[Tensor]] = {}
    for g in found:
        pieces.setdefault(g.device, []).append(local(g))
    for device, some in pieces.items():
        torch._foreach_mul_(some, inverse.to(device, non_blocking=True))
    optimizer.grad_scale = torch.ones_like(scale)
    return scale
