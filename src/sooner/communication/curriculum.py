"""Curricula in federated rounds: easy examples and easy clients first, by the loss of the common weights on them.

    n_t = b * n + (1 - b) * n * g(t / (a * T)) examples of a client's n, and likewise clients, are open in round t of T
    easy: those with the lowest loss,   hard: with the highest,   random: any,   all: always all of them
    g: linear x,   quadratic x^2,   root sqrt(x),   step floor(x),
       exponential (e^10x - 1) / (e^10 - 1),   logarithm 1 + ln(x + e^-10) / 10

Use it when clients have very different data, some of it mislabelled or hard.

Leave it when data are alike: order does little then. Always race ``samples="random"`` beside it, which opens as many
examples without any order.

It costs the loss of the examples of those that take part once per round, of all clients where these are chosen by it;
nothing on the wire but these losses; no state.

Vahidian et al., 2022, arXiv 2212.12712; the shapes of g are those of Wu et al., 2020, arXiv 2012.03107. All take
equally many steps, whatever is open; the clock is that of rounds, not of a client's own; a client counts by all of its
examples; where labels are known every class is opened alike, for the easiest examples of a client are its most frequent
class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sooner.communication._cohort import Cohort, Round, synchronous
from sooner.error import SoonerError, nearest
from sooner.foundation.generators import generator_at
from sooner.part import check_flags, check_range
from sooner.space import Choice, Knob

PACES: Mapping[str, Callable[[float], float]] = {
    "linear": lambda x: x,
    "quadratic": lambda x: x * x,
    "root": math.sqrt,
    "step": math.floor,
    "exponential": lambda x: math.expm1(10 * x) / math.expm1(10),
    "logarithm": lambda x: 1 + math.log(x + math.exp(-10)) / 10,
}
"""Share of what is not open at first that is open, by the time until all is."""


@dataclass(frozen=True)
class Curriculum(Cohort):
    """Opens examples, and where asked clients, little by little.

    Args:
        share: of the clients that takes part in a round, in [0, 1], default 0.1; at least one.
        samples: "easy" (default), "hard", "random" or "all".
        clients: "all" (default) draws them from everyone, "easy", "hard" and "random" from those that are open.
        pace: g, default "linear".
        start: b, share that is open at first, in [0, 1], default 0.2.
        full_at: a, share of the rounds after which all is open, at least 0, default 0.8.
        by_size: let clients count by how many examples they have, default False: alike.
        spread: standard deviation of the logarithm of the seconds per step, default 0: all equally fast.

    Raises:
        SoonerError: a value out of range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"start": Choice(0.1, 0.2, 0.5), "full_at": Choice(0.4, 0.8)}
    judges: ClassVar[bool] = True
    share: float = 0.1
    samples: str = "easy"
    clients: str = "all"
    pace: str = "linear"
    start: float = 0.2
    full_at: float = 0.8
    by_size: bool = False
    spread: float = 0.0

    def __post_init__(self) -> None:
        for name in ("share", "start"):
            check_range("curriculum", name, getattr(self, name), 0.0, 1.0)
        for name in ("full_at", "spread"):
            check_range("curriculum", name, getattr(self, name), 0.0, math.inf)
        check_flags("curriculum", by_size=self.by_size)
        orders = ("easy", "hard", "random", "all")
        for name, known in (("samples", orders), ("clients", orders), ("pace", tuple(PACES))):
            value = getattr(self, name)
            if value not in known:
                near = nearest(str(value), known)
                raise SoonerError(f"curriculum: {name}={value!r}{near} is none of {', '.join(known)}; choose one")

    def count(self, workers: int) -> int:
        """Return ``max(1, round(share * n))``."""
        return max(1, round(self.share * workers))

    def judged_round(self, time: float, difficulty: Tensor, number: int, steps: int, seed: int) -> Round:
        """Draw from the clients that are open."""
        workers = len(difficulty)
        order = _ordered(self.clients, difficulty, seed)
        pool = order[: max(self.count(workers), self._open(time, workers, self.clients))]
        chosen = pool[torch.randperm(len(pool), generator=generator_at(seed, number))[: self.count(workers)]]
        return synchronous(chosen.sort().values, steps, workers, self.spread, seed)

    def exposed(self, time: float, losses: Tensor, labels: Tensor | None, seed: int) -> Tensor:
        """Return those that are open: of every class the same share, where classes are known."""
        order = _ordered(self.samples, losses, seed)
        if labels is not None:
            # how far along its class each one is: the same for the first half of a large and of a small class
            same = labels[order][:, None] == labels[order][None]
            along = (same.tril().sum(1) - 0.5) / same.sum(1)
            order = order[torch.argsort(along, stable=True)]
        return order[: self._open(time, len(losses), self.samples)]

    def _open(self, time: float, count: int, order: str) -> int:
        if order == "all":
            return count
        passed = 1.0 if self.full_at == 0 else min(1.0, time / self.full_at)
        grown = min(1.0, max(0.0, PACES[self.pace](passed)))
        return max(1, min(count, math.floor(count * (self.start + (1 - self.start) * grown))))


def _ordered(order: str, losses: Tensor, seed: int) -> Tensor:
    if order in ("random", "all"):
        return torch.randperm(len(losses), generator=torch.Generator().manual_seed(seed))
    return torch.argsort(losses, descending=order == "hard", stable=True).cpu()
