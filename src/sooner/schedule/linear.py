"""Linear decay to zero after a linear warm-up: plain, and hard to beat when the number of steps is fixed.

    factor(t) = floor + (1 - floor) * (1 - p),   p = (t - W) / (T - W),   W = warmup * T;   before W a linear rise

Use it when the number of steps is fixed: the default here.

Leave it when training may go on after its planned end.

It costs nothing: no pass, no state, nothing on the wire.

Defazio et al., 2023, arXiv 2310.07831, derive it as the worst-case optimal schedule.
"""

from __future__ import annotations

from sooner.schedule._schedule import DecayingSchedule


class Linear(DecayingSchedule):
    """Warm-up (share of the steps, default 0.05), then a straight line to `floor` (default 0)."""

    def shape(self, progress: float) -> float:
        """``1 - progress``."""
        return 1 - progress
