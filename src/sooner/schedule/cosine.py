"""Cosine decay after a linear warm-up: slow at first and at the end, fast in the middle.

    factor(t) = floor + (1 - floor) * (1 + cos(pi * p)) / 2,   p = (t - W) / (T - W),   W = warmup * T;
    before W a rise

Use it when the number of steps is fixed and others are to be matched.

Leave it when training may go on after its planned end.

It costs nothing: no pass, no state, nothing on the wire.

Loshchilov and Hutter, 2016, arXiv 1608.03983, eq. 5, without restarts.
"""

from __future__ import annotations

import math

from sooner.schedule._schedule import DecayingSchedule


class Cosine(DecayingSchedule):
    """Warm-up (share of the steps, default 0.05), then half a cosine wave down to `floor` (default 0)."""

    def shape(self, progress: float) -> float:
        """``(1 + cos(pi * progress)) / 2``."""
        return (1 + math.cos(math.pi * progress)) / 2
