"""A gradient scaler that looks for infinities before the gradients were averaged decides for its own worker alone."""

from __future__ import annotations

import sys

from torch.amp import GradScaler

_DEEPEST = 24
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
