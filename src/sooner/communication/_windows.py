"""The windows of a real worker: what its optimizers' own steps begin from, and the outer part's step at their end."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sooner.communication._codec import Buffers
from sooner.communication._exchange import Exchange
from sooner.communication._flat import Flat
from sooner.communication._local import Local
from sooner.communication._local_steps import LocalSteps
from sooner.communication._outer import Outer, Window
from sooner.error import SoonerError
from sooner.foundation.layout import Layout


class Windows:
    """An outer part, and a local one if there is one, between the steps of a worker's optimizers.

    Args:
        outer: the outer part.
        local: the local part, None for none.
        flat: the weights now, where the first window begins.
        exchange: connects the workers.

    Attributes:
        slow: (d,) where this window began.
    """

    def __init__(self, outer: Outer, local: Local | None, flat: Flat, exchange: Exchange) -> None:
        self.outer, self._part, self._exchange = outer, local, exchange
        self._state: Buffers = {}
        self._use(flat)
        self.slow = flat.read()

    def _use(self, flat: Flat) -> None:
        self._flat, wire = flat, self._exchange.wire
        self._rests = [flat.parameters[n] for n in sorted(self.outer.rests(flat.layout, wire.rank, wire.size))]
        self._local = None if self._part is None else LocalSteps(self._part, flat)

    def copied(self, memo: dict[int, Any], flat: Flat, exchange: Exchange) -> Windows:
        """Return the same windows over copies of the parameters."""
        made = Windows(copy.deepcopy(self.outer, memo), copy.deepcopy(self._part, memo), flat, exchange)
        made.load_state_dict(self.state_dict(), torch.clone)
        return made

    @property
    def changes_gradients(self) -> bool:
        """Whether the optimizers get other gradients than backpropagation has found."""
        return self._local is not None or bool(self._rests)

    def before_step(self) -> None:
        """Take away the gradients of what rests, and give the optimizers those of the local part."""
        for p in self._rests:
            p.grad = None
        if self._local is not None:
            self._local.before(self.slow)

    def after_step(self) -> None:
        """Change the move that the optimizers have made into that of the local part."""
        moved = None if self._local is None else self._local.after()
        if moved is not None:
            self._flat.write(moved)

    def end(self, rounds: int, steps: int) -> None:
        """Take the outer part's step, number `rounds` after `steps` steps in all, and begin the next window there."""
        window = self._window(rounds, steps)
        made = self.outer.step(window)
        if self._local is not None:
            self._local.next_window(window.slow, window.fast, made)
        self.slow = made
        self._flat.write(made)

    def finish(self, rounds: int, steps: int) -> None:
        """Hear the outer part's last word on what is left of a window."""
        self.slow = self.outer.finish(self._window(rounds, steps))
        self._flat.write(self.slow)

    def _window(self, rounds: int, steps: int) -> Window:
        if not self._state:
            names = (*self.outer.slots, *self.outer.own_slots)
            self._state = {name: torch.zeros_like(self.slow) for name in names}
        return Window(self.slow, self._flat.arrived(self.slow), self._state, self._exchange, rounds, steps)

    def check_layout(self, layout: Layout) -> None:
        """Refuse another layout where something is kept that fits no other than the one before.

        Raises:
            SoonerError: the outer part has divided the parameters into fragments.
        """
        size = self._flat.layout.size
        if any(v.numel() > 1 and v.shape[-1] != size for v in self._state.values()) or self._exchange.flights.pieces():
            raise SoonerError(
                f"{self.outer.name()} has divided the parameters that are trained into fragments, and these have "
                "changed; freeze, unfreeze or replace them before Communication is made"
            )

    def take_along(self, flat: Flat, weights: Tensor) -> None:
        """Bring all that is kept into another layout, device and type; new places begin at `weights` (d,), or at 0."""
        before = self._flat.layout

        def moved(name: str, v: Tensor) -> Tensor:
            v = v.to(weights.device, weights.dtype)
            if v.shape[-1:] != (before.size,) or before.shapes == flat.layout.shapes:
                return v
            begins = weights if name in {"slow", *self.outer.weights_kept} else None
            return flat.layout.taken_from(before, v, begins)

        self.slow = moved("slow", self.slow)
        self._state = {name: moved(name, v) for name, v in self._state.items()}
        kept = {} if self._local is None else self._local.state
        self._use(flat)
        if self._local is not None:
            self._local.state.update({name: moved(name, v) for name, v in kept.items()})

    def state_dict(self) -> dict[str, Any]:
        """Return what a worker keeps from window to window."""
        return {"outer": self._state, "slow": self.slow, "local": {} if self._local is None else self._local.state}

    def load_state_dict(self, state: dict[str, Any], placed: Callable[[Tensor], Tensor]) -> None:
        """Load what `state_dict` returned; `placed` copies a vector into the layout of here."""
        self._state = {name: placed(value) for name, value in state["outer"].items()}
        self.slow = placed(state["slow"])
        if self._local is not None:
            self._local.state.update({name: placed(value) for name, value in state["local"].items()})
