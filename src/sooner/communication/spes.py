"""SPES: every worker trains all shared weights but only its own experts, and sends nothing else.

    every H steps:   shared weights <- (1 / n) sum_i w_i,   expert e <- w_i of its owner i = e // (experts / n)
    at first, every T steps, all at once:   e <- e + a_t (1 / 4) sum_j (e_j - e),   a_t = a (1 - step / merge_until)
    over the 4 experts j of the layer that are most like it, by the cosine of their first matrices

Use it when a mixture of experts is too large for each worker to train all of it, or to send all of it.

Leave it when the model has no experts, or fewer than workers.

It costs 1 / H of the shared weights and of the own experts per step on the wire, up; optimizer state for these alone;
no pass.

"Pretraining a large language model using distributed GPUs", 2026, arXiv 2602.11543. Similarity is that of the first
matrices, but all of an expert is merged, from values before the merge. The released code's classes, server and scripts
disagree on a, T and its end; these are the script's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sooner.communication._exchange import Exchange
from sooner.communication._outer import Outer, Window
from sooner.error import SoonerError
from sooner.foundation.layout import Layout
from sooner.part import check_range
from sooner.space import Choice, Knob


@dataclass(frozen=True)
class SPES(Outer):
    """Takes every expert from its owner and averages everything else.

    Args:
        every: optimizer steps between two syncs, default 100.
        experts: pattern of the names of an expert's parameters, with ``{}`` for its number and ``*`` for anything.
        merge: a, how far experts move towards those like them at first, in [0, 1], default 0.05; 0 merges never.
        merge_every: T, optimizer steps between two merges, a multiple of `every`, default 500.
        merge_until: the step at which merging has faded out, default 20000.
        neighbours: how many experts each is merged with, default 4, or all others of the layer.

    Raises:
        SoonerError: a value out of range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"every": Choice(20, 50, 100)}
    every: int = 100
    experts: str = "*.experts.{}.*"
    merge: float = 0.05
    merge_every: int = 500
    merge_until: int = 20000
    neighbours: int = 4

    def __post_init__(self) -> None:
        self.check_every()
        check_range(self.name(), "merge", self.merge, 0, 1)
        for name in ("merge_every", "merge_until", "neighbours"):
            check_range(self.name(), name, getattr(self, name), 1, math.inf, whole=True)
        if not isinstance(self.experts, str) or self.experts.count("{}") != 1:
            raise SoonerError(f"spes: experts={self.experts!r} does not say where the number is; write one {{}} there")
        if self.merge and self.merge_every % self.every:
            raise SoonerError(
                f"spes: merge_every={self.merge_every} is no multiple of every={self.every}, and only syncs merge; "
                "make it one"
            )

    def check(self, exchange: Exchange) -> None:
        """Refuse codecs, memories, and models whose experts can't be dealt out evenly."""
        self.plain_only(exchange)
        self._owned(exchange.layout, exchange.wire.size)

    def rests(self, layout: Layout, rank: int, workers: int) -> frozenset[str]:
        """Return the names of the experts' parameters that other workers own."""
        owned = self._owned(layout, workers)
        return frozenset(name for i, names in enumerate(owned) if i != rank for name in names)

    def step(self, window: Window) -> Tensor:
        """Sync, and merge if it is time."""
        window.everyone(self.name())
        wire, fast = window.exchange.wire, window.fast
        number = torch.arange(window.layout.size, device=fast.device)
        at = window.layout.views(number)
        owned = self._owned(window.layout, wire.size)
        own = torch.stack([torch.cat([at[name].reshape(-1) for name in names]) for names in owned])  # [n, own]
        common = torch.ones_like(number, dtype=torch.bool).index_fill_(0, own.reshape(-1), False).nonzero()[:, 0]
        mine = fast.gather(-1, own) if wire.lead else fast[own[wire.rank]]
        made = fast.new_empty(window.layout.size)
        if len(common):
            made[common] = wire.mean((fast[..., common],))[0]
        made[own] = wire.gather((mine,))[0]
        strength = self.merge * (1 - window.step / self.merge_until)
        if strength > 0 and window.step % self.merge_every == 0:
            self._merge(window.layout.views(made), strength)
        return made

    def _merge(self, weights: dict[str, Tensor], strength: float) -> None:
        """Move the experts of every layer towards those that are most like them."""
        for layer in self._layers(weights):
            matrix = next((i for i, name in enumerate(layer[0]) if weights[name].ndim > 1), 0)
            first = torch.stack([weights[names[matrix]].reshape(-1) for names in layer])  # [experts, numbers]
            first = torch.nn.functional.normalize(first, dim=1)
            alike = (first @ first.T).fill_diagonal_(-math.inf)
            nearest = alike.topk(min(self.neighbours, len(layer) - 1), dim=1).indices  # [experts, neighbours]
            if not nearest.numel():
                continue
            for same in zip(*layer, strict=True):
                before = torch.stack([weights[name] for name in same])
                after = before + strength * (before[nearest].mean(1) - before)
                torch._foreach_copy_([weights[name] for name in same], list(after.unbind()))

    def _layers(self, names: Mapping[str, object]) -> list[list[list[str]]]:
        """Return the names of the parameters by layer, expert and matrix."""
        pattern = re.escape(self.experts).replace(r"\*", ".*").replace(r"\{\}", r"(\d+)")
        layers: dict[str, dict[int, list[str]]] = {}
        for name in names:
            if found := re.fullmatch(pattern, name):
                layers.setdefault(name[: found.start(1)], {}).setdefault(int(found[1]), []).append(name)
        return [[experts[number] for number in sorted(experts)] for experts in layers.values()]

    def _owned(self, layout: Layout, workers: int) -> list[list[str]]:
        """Return the names of the parameters that each worker owns, of the same shapes for all.

        Raises:
            SoonerError: there are none, or they can't be dealt out evenly.
        """
        layers = self._layers(layout.shapes)
        if not layers:
            raise SoonerError(f"spes: no parameter is named like {self.experts!r}; give the pattern of your experts")
        for experts in layers:
            shapes = {tuple(layout.shapes[name] for name in names) for names in experts}
            if len(experts) % workers or len(shapes) > 1:
                what = "of several shapes" if len(shapes) > 1 else f"for {workers} workers"
                raise SoonerError(
                    f"spes: the {len(experts)} experts beside {experts[0][0]} {what} can't be dealt out evenly; use a "
                    "number of workers that divides them, and experts that are alike"
                )
        owned: list[list[str]] = [[] for _ in range(workers)]
        for experts in layers:
            for number, names in enumerate(experts):
                owned[number // (len(experts) // workers)] += names
        return owned
