"""Cooldown sampling: rare domains often at first, in proportion later.

    q_j = n_j^(1/tau) / sum over k of n_k^(1/tau),   tau = hot in the first part of the steps, cold after that

A batch draws the domain of every example by q, and takes the next example of that domain's own shuffled passes. Drawing
a rare domain often has the same expected gradient as weighting its loss, with less variance, so it learns in fewer
steps; drawing in proportion at the end keeps what has few examples from being learned by heart.

Use it when domains differ in size by a lot, have something in common, and the rare ones over-fit when drawn often.

Leave it when domains have nothing in common: rare ones are then forgotten after the switch.

It costs nothing but a few random numbers per step; no state, for a batch is a function of the step; nothing on the
wire.

Li et al., 2024, arXiv 2410.04579, section 5, with its temperatures of 5 and 1 and one switch at half of the steps.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sooner.data._mixture import Counts, DomainSampler, Mixture, check_tau, probabilities
from sooner.error import SoonerError
from sooner.part import Part, check_range

__all__ = ["Cooldown"]


class Cooldown(DomainSampler, Part):
    """Batches of positions for ``DataLoader(data, batch_sampler=Cooldown(domains, batch_size=32, steps=10_000))``.

    ``sampler[step]`` is the batch of any step, found without the steps before; ``Cooldown(..., start=step)`` resumes.
    `weights` are the probabilities of the domains at a step, and `passes` how often their examples were seen before
    one. In a recipe it draws from a task's ``examples``, and fills in everything but the temperatures and the switch.

    Args:
        domains: (N,) the domain of each example, numbers or texts; or a `torch.utils.data.ConcatDataset`, each of whose
            parts is one.
        batch_size: examples of a batch on one worker.
        steps: batches of the whole run.
        hot: temperature in the beginning, default 5; 1 draws in proportion, infinity uniformly.
        cold: temperature in the end, default 1.
        switch: share of the steps that are hot, in [0, 1], default 0.5.
        seed: decides everything, with the step; default 0.
        start: where iterating begins, default 0; the step to resume from.
        rank: this worker's number, default 0.
        world: how many workers share a batch of ``batch_size * world``, default 1.

    Raises:
        SoonerError: a number out of range, or no domain per example.
    """

    station: ClassVar[str] = "data"
    needs = frozenset({"domains"})
    owns = frozenset({"sampler"})
    horizon_free: ClassVar[bool] = False

    def __init__(
        self,
        domains: Any,
        batch_size: int,
        steps: int,
        hot: float = 5.0,
        cold: float = 1.0,
        switch: float = 0.5,
        seed: int = 0,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        check_tau("cooldown", "hot", hot)
        check_tau("cooldown", "cold", cold)
        check_range("cooldown", "switch", switch, 0.0, 1.0)
        if steps is None:
            raise SoonerError("cooldown: steps=None has no half to switch at; give the steps of the whole run")
        super().__init__("cooldown", domains, batch_size, steps, seed, start, rank, world)
        self.hot, self.cold, self.switch = hot, cold, switch
        self.switches_at = round(switch * steps)
        self._phases = [probabilities(self.sizes, tau) for tau in (hot, cold)]
        batch = self.batch_size * self.world
        self._mixtures = [Mixture(q, batch, (self.seed, 0, phase)) for phase, q in enumerate(self._phases)]

    def weights(self, step: int) -> NDArray[np.float64]:
        """Return the probabilities of the domains at a step, ``[domains]``."""
        return self._phases[int(step >= self.switches_at)]

    def counts(self, step: int) -> Counts:
        """Return how many examples of each domain all workers have drawn before a step, ``[domains]``."""
        found = self._mixtures[0].before(min(step, self.switches_at))
        return found + self._mixtures[1].before(step - self.switches_at) if step > self.switches_at else found
