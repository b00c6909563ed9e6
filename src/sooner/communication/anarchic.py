"""Anarchic participation: workers come back when they are done, with as many steps as they liked, on weights of then.

    s_i ~ exp(spread * N(0, 1)) seconds per step,   K_i uniform in 1 ... H,   a round ends when m have come back
    who has come back goes on from the new weights; nobody's are older than `oldest` rounds, for the server waits then

Use it when slow and fast workers are to be simulated, with an outer part that can use old weights: `afa_cd`, `afa_cs`;
with ``oldest=0`` m random workers start from the newest weights and are waited for, which any outer part can use.

Leave it when all workers are equally fast: waiting for all of them costs nothing then.

It costs nothing of its own on the wire; a simulation keeps the common weights of `oldest` rounds; no pass.

Yang et al., 2021, arXiv 2108.09875.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from sooner.communication._cohort import Cohort, Round, seconds_per_step
from sooner.error import SoonerError
from sooner.foundation.generators import generator_at
from sooner.part import check_range
from sooner.space import Choice, Knob


@dataclass(frozen=True)
class Anarchic(Cohort):
    """An event-driven simulation of workers.

    Args:
        share: of the workers that is awaited in a round, in [0, 1], default 0.1; at least one worker.
        spread: standard deviation of the logarithm of the seconds per step, default 1: of 20, the slowest takes some 30
            times as long as the fastest.
        oldest: how many rounds old the weights may be that a worker comes back with, default 50.

    Raises:
        SoonerError: a value out of range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"share": Choice(0.1, 0.2, 0.5)}
    uneven: ClassVar[bool] = True
    share: float = 0.1
    spread: float = 1.0
    oldest: int = 50

    def __post_init__(self) -> None:
        check_range("anarchic", "share", self.share, 0.0, 1.0)
        check_range("anarchic", "spread", self.spread, 0.0, math.inf)
        check_range("anarchic", "oldest", self.oldest, 0, math.inf, whole=True)

    def count(self, workers: int) -> int:
        """Return ``max(1, round(share * n))``."""
        return max(1, round(self.share * workers))

    def round(self, number: int, workers: int, steps: int, seed: int) -> Round:
        """Return who came back in this round."""
        count = self.count(workers)
        if self.oldest == 0:
            generator = generator_at(seed, number)
            active = torch.randperm(workers, generator=generator)[:count].sort().values
            taken = torch.randint(1, steps + 1, (count,), generator=generator)
            seconds = float((seconds_per_step(workers, self.spread, seed)[active] * taken).max())
            return Round(active, taken, torch.zeros_like(active), seconds)
        if self.oldest * count < workers:
            raise SoonerError(
                f"anarchic: {workers} workers, {count} of them at a time, can't all come back within {self.oldest} "
                f"rounds; set oldest to at least {math.ceil(workers / count)}"
            )
        return _timeline(workers, count, steps, seed, self.spread, self.oldest).round(number)


class _Timeline:
    """The rounds of a simulation, each of which follows from those before it."""

    def __init__(self, workers: int, count: int, steps: int, seed: int, spread: float, oldest: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._pace = seconds_per_step(workers, spread, seed)
        self._count, self._steps, self._oldest = count, steps, oldest
        self._version = torch.zeros(workers, dtype=torch.long)  # of the weights that each works on
        self._taken = torch.randint(1, steps + 1, (workers,), generator=self._generator)
        self._done = self._pace * self._taken  # when
        self._now = 0.0
        self._rounds: list[Round] = []

    def round(self, number: int) -> Round:
        while len(self._rounds) < number:
            self._rounds.append(self._next(len(self._rounds)))
        return self._rounds[number - 1]

    def _next(self, version: int) -> Round:
        """Return the round that ends with weights number ``version + 1``."""
        age = version - self._version
        first = torch.argsort(self._done, stable=True)
        oldest = first[torch.argsort(-age[first], stable=True)]
        # with the oldest first from now on, would anybody come too late?
        late = age[oldest] + torch.arange(len(age)) // self._count >= self._oldest
        awaited = oldest if bool(late.any()) else first
        active = awaited[: self._count].sort().values
        ends = max(self._now, float(self._done[active].max()))
        made = Round(active, self._taken[active], age[active], ends - self._now)
        self._now = ends
        self._version[active] = version + 1
        self._taken[active] = torch.randint(1, self._steps + 1, (self._count,), generator=self._generator)
        self._done[active] = ends + self._pace[active] * self._taken[active]
        return made


_timeline = functools.lru_cache(maxsize=8)(_Timeline)
