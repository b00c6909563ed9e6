"""CO2: local steps whose averages travel while the next window is trained, and are used one window late.

    x_t: where window t begins,   u_t = x_t - (1 / n) sum_i x_t,H,i: launched at its end, used at the end of the next
    m <- beta m + u_{t-1} / Lambda_t,   x_{t+1} = x_t - alpha clip(m, -phi, phi)
    Lambda_t = 1 + ||x_t - x_{t-1}|| / ||u_{t-1}||, or a constant

Use it when an average takes about as long as a window: nobody waits for it.

Leave it when windows are long already: every window begins without the one before it.

It costs 1 / H of a gradient per step on the wire, in the background; four numbers of state per weight; no pass.

Sun et al., 2024, arXiv 2401.16265. The first window is averaged synchronously, so nothing has arrived at the end of the
second, and every movement counts once. Lambda_t is ours, in the manner of gap-aware training: the paper's formula was
not to be had, and its code takes a constant, 1. Its code also throws the clipped momentum away and blocks on the
average it launched; this is the paper's algorithm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from sooner.communication._exchange import Exchange
from sooner.communication._outer import Outer, Window
from sooner.part import check_range
from sooner.space import Choice, Knob


@dataclass(frozen=True)
class CO2(Outer):
    """Averages one window late.

    The window's state tells under "clipped" which share of the momentum the last clipping changed.

    Args:
        every: optimizer steps per window, default 48.
        lr: alpha, default 1.
        momentum: beta, in [0, 1), default 0; the paper takes 0.2 from 32 workers on, 0.5 from 64, 0.6 beyond.
        clip: phi, the most that a weight moves in an outer step before `lr`, default 1.
        penalty: Lambda, at least 1; None for the one above that grows with what the average is late by.

    Raises:
        SoonerError: a value out of range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"every": Choice(12, 24, 48), "momentum": Choice(0.0, 0.2, 0.5)}
    slots: ClassVar[tuple[str, ...]] = ("momentum",)
    meets: ClassVar[Literal["first", "meanwhile", "never"]] = "meanwhile"
    weights_kept: ClassVar[frozenset[str]] = frozenset({"start"})
    every: int = 48
    lr: float = 1.0
    momentum: float = 0.0
    clip: float = 1.0
    penalty: float | None = None

    def __post_init__(self) -> None:
        self.check_every()
        check_range(self.name(), "lr", self.lr, 0, math.inf)
        check_range(self.name(), "momentum", self.momentum, 0, 1, open_high=True)
        check_range(self.name(), "clip", self.clip, 0, math.inf)
        check_range(self.name(), "penalty", 1 if self.penalty is None else self.penalty, 1, math.inf)

    def check(self, exchange: Exchange) -> None:
        """Refuse what can't be averaged in the background."""
        exchange.flights.check(self.name())

    def step(self, window: Window) -> Tensor:
        """Use the window before this one, and launch this one."""
        flights = window.exchange.flights
        made = self._used(window)
        flights.launch("window", window.weighted(window.common - window.fast))
        if window.round == 1:
            made = self._used(window)
        window.state["start"] = window.common.clone()
        return made

    def finish(self, window: Window) -> Tensor:
        """Use what is under way, and what the workers did since."""
        return self._used(window) + (window.plain_mean() - window.common)

    def _used(self, window: Window) -> Tensor:
        """Return where the next window begins, by what has arrived."""
        flights, state = window.exchange.flights, window.state
        if "window" not in flights:
            return window.common
        u = flights.land("window")
        penalty: Tensor | float = self.penalty or 1.0
        if self.penalty is None and "start" in state:
            penalty = 1 + (window.common - state["start"]).norm() / (u.norm() + 1e-12)
        before = state["momentum"]
        state["momentum"] = momentum = self.momentum * before + u / penalty
        state["clipped"] = (momentum.abs() > self.clip).to(momentum.dtype).mean()
        return window.common - self.lr * momentum.clamp(-self.clip, self.clip)
