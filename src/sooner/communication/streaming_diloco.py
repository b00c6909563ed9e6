"""Streaming DiLoCo: DiLoCo in fragments, each averaged at its own time and in the background of training.

    fragment p, every H steps, at steps that lie H / F apart for the F fragments:
    D steps before:   g_p = (1 / n) sum_i (theta_p - theta_i,p) is launched
    then:             m_p <- mu m_p + g_p,   theta_p <- theta_p - lr (mu m_p + g_p)
                      theta_i,p <- alpha theta_i,p + (1 - alpha) theta_p

Use it when DiLoCo's peak, a whole model at once, is too much for the network: it sends a fragment at a time, and does
not wait for it.

Leave it when the network carries DiLoCo's averages in little time: what arrives late helps less.

It costs 1 / H of a gradient per step on the wire, in F messages; three numbers of state per weight; no pass.

Douillard et al., 2025, arXiv 2501.18512. The paper's fragments are sets of layers; here they are pieces of equal length
of the flat vector, which is all the same to a rule that looks at one weight at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from sooner.communication._exchange import Exchange
from sooner.communication._nesterov import Nesterov
from sooner.communication._outer import Window
from sooner.error import SoonerError
from sooner.part import check_range
from sooner.space import Choice, Knob


@dataclass(frozen=True)
class StreamingDiLoCo(Nesterov):
    """DiLoCo, a fragment at a time.

    Args:
        every: optimizer steps between two outer steps of the same fragment, default 48; a multiple of `fragments`.
        lr: of the outer optimizer, default 0.7.
        momentum: of the outer optimizer, in [0, 1), default 0.9.
        fragments: how many there are, default 4.
        delay: optimizer steps between sending a fragment and using what came back, below `every`, default 5.
        alpha: how much of a worker's own weights stays in the mixture, in [0, 1], default 0.5; 0 takes the common ones.

    Raises:
        SoonerError: a value out of range, or fragments that don't divide `every`.
    """

    space: ClassVar[Mapping[str, Knob]] = {**Nesterov.space, "every": Choice(12, 24, 48)}
    meets: ClassVar[Literal["first", "meanwhile", "never"]] = "meanwhile"
    weights_kept: ClassVar[frozenset[str]] = frozenset({"common"})
    every: int = 48
    fragments: int = 4
    delay: int = 5
    alpha: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self.name(), "fragments", self.fragments, 1, self.every, whole=True)
        check_range(self.name(), "delay", self.delay, 0, self.every, open_high=True, whole=True)
        check_range(self.name(), "alpha", self.alpha, 0, 1)
        if self.every % self.fragments:
            raise SoonerError(
                f"{self.name()}: {self.fragments} fragments don't divide every={self.every}; make it a multiple"
            )

    def check(self, exchange: Exchange) -> None:
        """Refuse what can't be averaged in the background."""
        exchange.flights.check(self.name())

    def due(self, step: int) -> bool:
        """Whether a fragment leaves or arrives."""
        apart = self.every // self.fragments
        return step % apart == 0 or (step + self.delay) % apart == 0

    def step(self, window: Window) -> Tensor:
        """Send the fragment whose time it is, and use the one that has arrived."""
        flights, state = window.exchange.flights, window.state
        window.everyone(self.name())
        common = state.setdefault("common", window.common.clone())
        made = window.fast
        leaves, arrives = self._fragment(window.step + self.delay), self._fragment(window.step)
        if leaves is not None:
            at = self._place(leaves, common.shape[-1])
            flights.launch(f"fragment {leaves}", window.weighted(common[..., at] - window.fast[..., at]))
        if arrives is not None and f"fragment {arrives}" in flights:
            at = self._place(arrives, common.shape[-1])
            g = flights.land(f"fragment {arrives}")
            common, made = common.clone(), made.clone()
            common[..., at] = self.stepped(common[..., at], g, state, f"momentum {arrives}")
            made[..., at] = self.alpha * made[..., at] + (1 - self.alpha) * common[..., at]
            state["common"] = common
        return made

    def _fragment(self, step: int) -> int | None:
        """Return the fragment whose outer step is due at this optimizer step."""
        turn, late = divmod(step, self.every // self.fragments)
        return (turn - 1) % self.fragments if late == 0 else None

    def _place(self, fragment: int, size: int) -> slice:
        return slice(fragment * size // self.fragments, (fragment + 1) * size // self.fragments)
