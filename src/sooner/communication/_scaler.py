"""A gradient scaler that looks for infinities before the gradients were averaged decides for its own worker alone."""

from __future__ import annotations

import sys

from torch.amp import GradScaler

from sooner.communication._wire import Wire
from sooner.error import SoonerError

_DEEPEST = 25
"""Calls between a scaler's step and an average; wrapped optimizers and gradient parts lie in between."""

_STEPS = frozenset({GradScaler.step.__code__})


def scaler_at_work() -> GradScaler | None:
    """Return the enabled `torch.amp.GradScaler` whose `step` has called, through whatever; None where there is none."""
    frame = sys._getframe(1)
    for _ in range(_DEEPEST):
        if frame.f_code in _STEPS:
            scaler = frame.f_locals.get("self")
            return scaler if isinstance(scaler, GradScaler) and scaler.is_enabled() else None
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return None


def refuse_before_average(wire: Wire) -> None:
    """Refuse to average gradients behind a scaler that has looked at this worker's own.

    Raises:
        SoonerError: a scaler's step is at work, and there are other workers.
    """
    if wire.size > 1 and scaler_at_work() is not None:
        raise SoonerError(
            "the gradient scaler has looked for infinities in this worker's own gradients, so that it would leave "
            "out steps that others take; call communication.average_gradients() before scaler.unscale_ and "
            "scaler.step"
        )


def refuse_in_windows(wire: Wire) -> None:
    """Refuse a scaler where workers step on their own, as many times each.

    Raises:
        SoonerError: a scaler's step is at work, and there are other workers.
    """
    if wire.size > 1 and (scaler := scaler_at_work()) is not None:
        raise SoonerError(
            f"{type(scaler).__name__} leaves out steps of one worker alone, whose windows would then end after "
            "other steps than those of the others; train in bfloat16 or float32, without a scaler"
        )
