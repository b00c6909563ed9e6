"""Who takes part in a round of a simulated cluster, with how many steps, and from how old weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sooner.part import Part


@dataclass(frozen=True)
class Round:
    """One round.

    Attributes:
        active: (m,) numbers of the workers that take part, ascending.
        steps: (m,) optimizer steps that each of them takes.
        staleness: (m,) by how many rounds the weights are old that each started from, 0 for the newest.
        seconds: how long the round takes on the simulated clock.
    """

    active: Tensor
    steps: Tensor
    staleness: Tensor
    seconds: float


class Cohort(Part):
    """A frozen dataclass of hyper-parameters; every answer is a function of its arguments alone.

    Attributes:
        uneven: workers may take fewer steps than they are asked for.
        spread: standard deviation of the logarithm of the workers' seconds per step, whose median is 1.
        oldest: by how many rounds the weights may be old that a worker starts from.
        by_size: workers count by how many examples they have, rather than alike.
        judges: who takes part with which examples depends on their losses: `judged_round` and `exposed` say so.
    """

    station: ClassVar[str] = "communication"
    owns: ClassVar[frozenset[str]] = frozenset({"cohort"})
    order: ClassVar[int] = 20
    uneven: ClassVar[bool] = False
    judges: ClassVar[bool] = False
    spread: float
    oldest: int = 0
    by_size: bool = False

    def count(self, workers: int) -> int:
        """Return how many of the workers take part in every round."""
        return workers

    def round(self, number: int, workers: int, steps: int, seed: int) -> Round:
        """Return who takes part in round `number` (from 1) of `workers`, each asked for `steps` steps."""
        raise TypeError(f"{type(self).__name__} defines no round")

    def judged_round(self, time: float, difficulty: Tensor, number: int, steps: int, seed: int) -> Round:
        """Return the same from everybody's difficulty.

        Args:
            time: share of all rounds that are over.
            difficulty: (n,) mean loss of each worker's examples by the common weights.
            number: of the round, from 1.
            steps: that each is asked for.
            seed: of the choice.
        """
        raise TypeError(f"{type(self).__name__} defines no judged_round")

    def exposed(self, time: float, losses: Tensor, labels: Tensor | None, seed: int) -> Tensor:
        """Return (k,) the numbers of the examples that a worker draws from in this round.

        Args:
            time: share of all rounds that are over.
            losses: (N,) of its examples by the common weights.
            labels: (N,) class of each, None where that is not known.
            seed: of this worker.
        """
        raise TypeError(f"{type(self).__name__} defines no exposed")


def synchronous(active: Tensor, steps: int, workers: int, spread: float, seed: int) -> Round:
    """Return the round in which all of these take all steps, and wait for the slowest of them."""
    seconds = float(seconds_per_step(workers, spread, seed)[active].max()) * steps
    return Round(active, torch.full_like(active, steps), torch.zeros_like(active), seconds)


def seconds_per_step(workers: int, spread: float, seed: int) -> Tensor:
    """Return (n,) float64: how long a step takes each worker, log-normal around 1."""
    generator = torch.Generator().manual_seed(seed)
    return (spread * torch.randn(workers, generator=generator, dtype=torch.float64)).exp()
