"""The weights from which the workers of a simulated cluster go on, and what the outer part keeps between rounds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sooner.communication._codec import Buffers
from sooner.communication._cohort import Cohort, Round
from sooner.communication._exchange import Exchange
from sooner.communication._outer import Outer, Window
from sooner.error import SoonerError


class SlowWeights:
    """Where everyone goes on from, and how that moves at the end of a round.

    Args:
        outer: the outer part, None for none.
        cohort: who takes part.
        exchange: connects the workers.
        start: (d,) weights at the beginning.
        workers: how many there are.
        common: whether all workers have the same weights at all times.

    Attributes:
        now: (d,) or (n, d), the weights from which the workers go on.
        moved: (d,) how far that was from the ones before.
        some: whether only some workers take part in a round, while each of them has weights of its own.
    """

    def __init__(
        self, outer: Outer | None, cohort: Cohort, exchange: Exchange, start: Tensor, workers: int, common: bool
    ) -> None:
        self._outer, self._cohort, self._exchange = outer, cohort, exchange
        self._workers, self._common = workers, common
        self.some = not common and (cohort.uneven or cohort.count(workers) < workers)
        self.now = start.clone()
        self.moved = torch.zeros_like(start)
        self._past = [self.now]  # [d] each, newest last, for workers that start from old weights
        self._state: Buffers = {}

    def starts(self, now: Round) -> Tensor:
        """Return (m, d) the weights from which those that take part start."""
        if not self._cohort.oldest:
            return self.now.expand(len(now.active), -1)
        ages = now.staleness.clamp(max=len(self._past) - 1)
        return torch.stack([self._past[-1 - int(age)] for age in ages])

    def window(
        self, now: Round | None, fast: Tensor, started: Tensor, rounds: int, step: int, weights: Tensor | None
    ) -> Window:
        """Return what the outer part sees.

        Args:
            now: the round under way, None between two.
            fast: (m, d) or (d,), where the workers have arrived.
            started: (m, d) where those that take part have started.
            rounds: number of this one, from 1.
            step: optimizer steps so far.
            weights: (m,) how much each counts; None for equally much.
        """
        outer = self._outer
        assert outer is not None
        if not self._state and self._common:
            self._state = {name: torch.zeros_like(fast) for name in (*outer.slots, *outer.own_slots)}
        elif not self._state:
            everyone = (self._workers, self._exchange.layout.size)
            self._state = {name: self.now.new_zeros(everyone) for name in outer.own_slots}
            self._state |= {name: torch.zeros_like(fast[0]) for name in outer.slots}
        # where all workers have the same weights, the rule's vectors are no worker's own
        active = now.active if now is not None and self.some else None
        state = dict(self._state)
        if active is not None:
            state |= {name: state[name][active] for name in outer.own_slots}
        slow = self.now if self._common or self.some or fast.ndim == 1 else self.now.expand_as(fast)
        weights = None if weights is None else weights.to(fast)
        window = Window(slow, fast, state, self._exchange, rounds, step, weights, active)
        window.started = started if self._cohort.oldest else None
        window.taken = now.steps if now is not None and self._cohort.uneven else None
        return window

    def keep(self, window: Window) -> None:
        """Keep what the outer part has written into its window."""
        assert self._outer is not None
        for name, value in window.state.items():
            if window.active is not None and name in self._outer.own_slots:
                self._state[name][window.active] = value
            else:
                self._state[name] = value

    def joined(self, made: Tensor) -> Tensor:
        """Return what the outer part made, ``[d]`` where it is the same for all workers.

        Raises:
            SoonerError: it differs, and not all workers take part.
        """
        assert self._outer is not None
        if made.ndim == 2 and bool((made == made[:1]).all()):
            return made[0]
        if made.ndim == 2 and self.some:
            raise SoonerError(
                f"{self._outer.name()} moves every worker's own weights, so all of them have to take part in every "
                f"round; leave {self._cohort.name()} out"
            )
        return made

    def go_on_from(self, made: Tensor) -> None:
        """Begin the next round at these weights, ``[d]`` or ``[n, d]``."""
        before, self.now = self.now, made.clone()
        moved = self.now - before
        self.moved = moved if moved.ndim == 1 else moved.mean(0)
        if self._cohort.oldest:
            self._past = [*self._past, self.now][-1 - self._cohort.oldest :]

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on."""
        return {"now": self.now, "moved": self.moved, "past": self._past, "outer": self._state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self.now, self.moved, self._past, self._state = (state[name] for name in ("now", "moved", "past", "outer"))
