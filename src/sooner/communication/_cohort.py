"""Who takes part in a round of a simulated cluster, with how many steps, and from how old weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

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
    """A frozen dataclass of hyper-parameters; every answer is a function of the seed and the round alone."""

    station: ClassVar[str] = "communication"
    owns: ClassVar[frozenset[str]] = frozenset({"cohort"})
    order: ClassVar[int] = 20

    def round(self, number: int, workers: int, steps: int, seed: int) -> Round:
        """Return who takes part in round `number` (from 1) of `workers`, each asked for `steps` steps."""
        raise TypeError(f"{type(self).__name__} defines no round")

    def mixing(self, number: int, workers: int, seed: int) -> Tensor | None:
        """Return (n, n) float64, symmetric, rows adding up to 1: who averages with whom; None for a server."""
        return None
