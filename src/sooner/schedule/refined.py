"""Refined linear decay: the worst-case optimal schedule for the gradient norms that an earlier run has logged.

    w_k = G_k^-2 (SGD, G the L2 norm of all gradients) or G_k^-1 (Adam, G their L1 norm),   k = 0, …, T
    factor(t) ~ w_t * sum over k > t of w_k,   divided by its maximum;   t = 0, …, T - 1

G is smoothed by a running median first. Large norms at the start become a warm-up, falling norms at the end keep the
rate up for longer, and constant norms give exactly `linear`. Without norms this is `linear`. The median is padded so
that an early spike stays: on the left by the first norm, on the right by reflection.

Use it when the same job is run again and its gradient norms were logged.

Leave it when batch normalization makes norms grow as the rate falls, or gradients were clipped before the log.

It costs one number per step of the earlier run; no pass; nothing on the wire.

Defazio et al., 2023, arXiv 2310.07831, theorem 3 and section on refinement.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from sooner.error import SoonerError
from sooner.part import check_range
from sooner.schedule._kind import Kind, checked, kind_of
from sooner.schedule._norms import NormLog, read
from sooner.schedule._schedule import DecayingSchedule

__all__ = ["NormLog", "Refined", "refine"]

DROPPED = 2
"""So many norms at each end of a log are not used, as in the authors' code."""
RESOLUTION = 10_000
"""Longer logs are thinned to this many norms before smoothing."""


def refine(norms: Iterable[float], steps: int, kind: Kind, smooth: float = 0.1, cap: float = 10.0) -> list[float]:
    """Return the factors of `steps` steps, each in [0, 1], the largest 1, and a last 0 for the step after them.

    Args:
        norms: one gradient norm per step of an earlier run of any length, at least 8: L2 for "sgd", L1 for "adam".
        steps: number of steps planned.
        kind: "sgd" (exponent -2) or "adam" (exponent -1).
        smooth: width of the running median as a share of the run, in [0, 1], default 0.1 as in the paper.
        cap: smoothed norms are brought within this factor of their median, default 10 (our own guard: norms that fall
            or blow up by more would leave almost no step with a usable rate).

    Raises:
        SoonerError: a value outside its range, or norms that are mostly 0.
    """
    _check(smooth, cap)
    used = np.asarray(read(norms)[0])[DROPPED:-DROPPED]
    smoothed = _median(_stretched(used, min(len(used), RESOLUTION)), smooth)
    middle = float(np.median(smoothed))
    if middle == 0:
        raise SoonerError("refined: most norms are 0, where no schedule follows from them; log a run that trains")
    relative = _stretched((smoothed / middle).clip(1 / cap, cap), steps + 1)
    weights = relative ** (-2.0 if kind == "sgd" else -1.0)
    tails = np.cumsum(weights[:0:-1])[::-1]  # [steps], entry t is the sum over k > t
    rates = weights[:-1] * tails
    return [*(rates / rates.max()).tolist(), 0.0]


def _check(smooth: float, cap: float) -> None:
    check_range("refined", "smooth", smooth, 0.0, 1.0)
    check_range("refined", "cap", cap, 1.0, 1e9)


def _stretched(values: NDArray[np.float64] | list[float], count: int) -> NDArray[np.float64]:
    """Return `values` interpolated linearly to `count` points over the same run."""
    return np.interp(np.linspace(0, 1, count), np.linspace(0, 1, len(values)), values)


def _median(values: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    from scipy.ndimage import median_filter

    width = 2 * int(share * len(values) / 2) + 1
    padded = np.pad(values, (0, 2 * width), mode="reflect")
    smoothed: NDArray[np.float64] = median_filter(padded, size=width, mode="nearest")
    return smoothed[: len(values)]


class Refined(DecayingSchedule):
    """Linear decay, refined by the gradient norms of an earlier run where they are given.

    Args:
        optimizer: the optimizer whose learning rates are scheduled.
        steps: number of steps planned, at least 1; may differ from the length of the run that was logged.
        norms: one norm per step (at least 8, logged before clipping), or a .json, .csv or .txt file of them, such as
            `NormLog.save` writes; default None is linear decay.
        kind: "sgd" where the norms are L2 norms of gradients for SGD, "adam" where they are L1 norms for an Adam-like
            method; default None takes what the file says, else what the optimizer's class suggests.
        smooth: width of the running median as a share of the run, default 0.1.
        cap: largest factor between a smoothed norm and the median of all, default 10.
        warmup: share of the steps over which the rate rises linearly; default None means 0.05 without norms and 0
            with norms, which bring their own warm-up. A warm-up given with norms is an upper bound on the rate.
        floor: smallest multiple of the base rate, default 0.
        last_epoch: number of the last step taken, -1 at the start.

    Raises:
        SoonerError: norms that can't be read or used, a kind that contradicts the file, or a value out of range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        steps: int,
        norms: Iterable[float] | Tensor | str | Path | None = None,
        kind: str | None = None,
        smooth: float = 0.1,
        cap: float = 10.0,
        warmup: float | None = None,
        floor: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        check_range("refined", "steps", steps, 1, float("inf"), whole=True)
        _check(smooth, cap)
        self.kind = kind_of("refined", kind, optimizer)
        self.table: list[float] | None = None
        if norms is not None:
            values, logged_for = read(norms)
            if logged_for is not None:
                if kind is not None and checked("refined", kind) != logged_for:
                    raise SoonerError(f"refined: {norms} holds norms of kind {logged_for!r}, not {kind!r}; drop kind=")
                self.kind = logged_for
            self.table = refine(values, steps, self.kind, smooth, cap)
        if warmup is None:
            warmup = 0.05 if norms is None else 0.0
        super().__init__(optimizer, steps, warmup, floor, last_epoch)

    def shape(self, progress: float) -> float:
        """``1 - progress``, the schedule where there are no norms."""
        return 1 - progress

    def factor(self, step: int) -> float:
        """Look the step up in the table made of the norms; 0 past the last step."""
        if self.table is None:
            return super().factor(step)
        height = self.table[min(step, self.steps)]
        rise = (step + 1) / (round(self.warmup * self.steps) + 1)
        return min(rise, self.floor + (1 - self.floor) * height)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on as every schedule does; without norms of its own by the saved table, stretched to the steps planned."""
        table = state_dict.get("table") if isinstance(state_dict, dict) else None
        if self.table is None and table is not None:
            self.kind, self.warmup = state_dict["kind"], state_dict["warmup"]
            self.table = table if len(table) == self.steps + 1 else _stretched(table, self.steps + 1).tolist()
        super().load_state_dict(state_dict)
