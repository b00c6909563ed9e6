"""Warm-up, a long stretch of constant learning rate, then a short linear decay: horizons can share most of a run.

    factor(t) = floor + (1 - floor) * min(1, (1 - p) / decay),   p = (t - W) / (T - W),   W = warmup * T;
    before W a linear rise

Use it when one long run should serve several lengths.

Leave it when there is one short run only.

It costs nothing: no pass, no state, nothing on the wire.

Hu et al., 2024, arXiv 2404.06395, section 4 (there with an exponential decay; the linear one after Hägele et al., 2024,
arXiv 2405.18392).
"""

from __future__ import annotations

from torch.optim import Optimizer

from sooner.part import check_range
from sooner.schedule._schedule import DecayingSchedule


class WarmupStableDecay(DecayingSchedule):
    """Warm-up, constant, then linear decay over the last part.

    Args:
        optimizer: the optimizer whose learning rates are scheduled.
        steps: number of steps planned, at least 1.
        warmup: share of the steps over which the rate rises linearly, default 0.05.
        decay: share of the steps after the warm-up over which the rate falls, in (0, 1], default 0.2.
        floor: smallest multiple of the base rate, default 0.
        last_epoch: number of the last step taken, -1 at the start.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        steps: int,
        warmup: float = 0.05,
        decay: float = 0.2,
        floor: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        check_range("warmup_stable_decay", "decay", decay, 1e-9, 1.0)
        self.decay = decay
        super().__init__(optimizer, steps, warmup, floor, last_epoch)

    def shape(self, progress: float) -> float:
        """1, then a straight line to 0 over the last `decay`."""
        return min(1.0, (1 - progress) / self.decay)
