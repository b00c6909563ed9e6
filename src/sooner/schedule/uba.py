"""Unified budget-aware decay: one number bends the cosine, from a late drop to an early decay.

    factor(t) = floor + (1 - floor) * s / (phi / 2 + (1 - phi / 2) * s),   s = (1 + cos(pi * K * p)) / 2,
    p = (t - W) / (T - W),   W = warmup * T;   before W a linear rise

`phi` = 2 is the cosine schedule; below 2 the rate stays high and drops late, above 2 it decays early. K phases fall
and rise in turn. `phi` changes the mean rate (`mean_factor`), so tune the learning rate for every `phi`.

Use it when the number of steps is fixed and there are trials to spend on the bend.

Leave it when learning rates are compared at equal peak: the bend changes the mean rate.

It costs nothing: no pass, no state, nothing on the wire.

Tang et al., 2025, arXiv 2505.24452, "Stepsize anything" (s is c / 2 of their 2 c / (2 phi + (2 - phi) c)).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from torch.optim import Optimizer

from sooner.error import SoonerError
from sooner.part import check_range
from sooner.schedule._schedule import DecayingSchedule
from sooner.space import Knob, Log


class UBA(DecayingSchedule):
    """Warm-up, then a bent cosine down to `floor`.

    Args:
        optimizer: the optimizer whose learning rates are scheduled.
        steps: number of steps planned, at least 1.
        phi: bend, above 0, default 1; the paper takes larger ones for badly conditioned or noisy problems.
        phases: odd number of half waves, default 1; the second, fourth… rise again.
        warmup: share of the steps over which the rate rises linearly, default 0.05.
        floor: smallest multiple of the base rate, default 0.
        last_epoch: number of the last step taken, -1 at the start.

    Raises:
        SoonerError: a hyper-parameter outside its range, or an even number of phases.
    """

    space: ClassVar[Mapping[str, Knob]] = {"phi": Log(0.25, 5.0)}

    def __init__(
        self,
        optimizer: Optimizer,
        steps: int,
        phi: float = 1.0,
        phases: int = 1,
        warmup: float = 0.05,
        floor: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        check_range("uba", "phi", phi, 1e-6, 1e6)
        check_range("uba", "phases", phases, 1, math.inf, whole=True)
        if phases % 2 == 0:
            raise SoonerError(f"uba: phases={phases!r} would end with a rise; choose an odd number")
        self.phi, self.phases = phi, phases
        super().__init__(optimizer, steps, warmup, floor, last_epoch)

    def shape(self, progress: float) -> float:
        """``s / (phi / 2 + (1 - phi / 2) * s)`` with the cosine's height s."""
        height = (1 + math.cos(math.pi * (self.phases * progress))) / 2
        return height / (self.phi / 2 + (1 - self.phi / 2) * height)
