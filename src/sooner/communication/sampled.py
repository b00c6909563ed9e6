"""Sampled participation: a random share of the workers takes part in each round.

    S_t uniform among the subsets of m = max(1, round(share * n)) workers

Use it when there are more clients than can be asked at once; with `local_sgd` it is FedAvg.

Leave it when a few workers hold all data: every round without one of them forgets what is theirs.

It costs nothing of its own: no bytes on the wire, no state, no pass.

McMahan et al., 2016, arXiv 1602.05629, algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from sooner.communication._cohort import Cohort, Round, synchronous
from sooner.foundation.generators import generator_at
from sooner.part import check_flags, check_range
from sooner.space import Choice, Knob


@dataclass(frozen=True)
class Sampled(Cohort):
    """A new random choice every round.

    Args:
        share: of the workers that takes part, in [0, 1], default 0.1; at least one worker.
        spread: standard deviation of the logarithm of the seconds per step, default 0: all equally fast.
        by_size: let clients count by how many examples they have, as FedAvg does, default False: alike.

    Raises:
        SoonerError: a value out of range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"share": Choice(0.1, 0.2, 0.5)}
    share: float = 0.1
    spread: float = 0.0
    by_size: bool = False

    def __post_init__(self) -> None:
        check_range("sampled", "share", self.share, 0.0, 1.0)
        check_range("sampled", "spread", self.spread, 0.0, math.inf)
        check_flags("sampled", by_size=self.by_size)

    def count(self, workers: int) -> int:
        """Return ``max(1, round(share * n))``."""
        return max(1, round(self.share * workers))

    def round(self, number: int, workers: int, steps: int, seed: int) -> Round:
        """Return the chosen ones."""
        chosen = torch.randperm(workers, generator=generator_at(seed, number))[: self.count(workers)]
        return synchronous(chosen.sort().values, steps, workers, self.spread, seed)
