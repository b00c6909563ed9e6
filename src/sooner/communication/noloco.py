"""NoLoCo: outer steps in random pairs, so that no collective of all workers ever happens.

    every H steps, i and j a random pair, phi the slow weights of each:   D = theta - phi
    m_i <- mu m_i + beta (D_i + D_j) / 2 + g ((phi_i + phi_j) / 2 - phi_i)
    phi_i <- phi_i + m_i,   theta_i <- phi_i

Use it when there are hundreds of workers, or slow ones among them: nobody waits for more than one partner.

Leave it when workers are few: it sends no less than an average of all, and every replica is a little worse than theirs.

It costs two models per H steps on the wire, to one partner; two numbers of state per weight; no pass. The average of
the replicas is the model to keep; report single replicas beside it.

Kolehmainen et al., 2025, arXiv 2506.10911. In the released code g = beta = 0.7, as here; g = 0 lets replicas go apart.
The weights of the paper's inner optimizers are never exchanged, and its routing of pipelines is not part of this.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sooner.communication._exchange import Exchange
from sooner.communication._outer import Outer, Window
from sooner.part import check_range
from sooner.space import Choice, Knob, Uniform


@dataclass(frozen=True)
class NoLoCo(Outer):
    """Mixes weights and movements with one partner at a time; of an odd number of workers, one rests.

    Args:
        every: optimizer steps between two outer steps, default 50.
        lr: beta, of the pair's mean movement, default 0.7.
        momentum: mu, in [0, 1), default 0.5.
        pull: g, towards the pair's mean weights, default 0.7.

    Raises:
        SoonerError: a value out of range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"every": Choice(10, 20, 50), "lr": Uniform(0.3, 1.0)}
    own_slots: ClassVar[tuple[str, ...]] = ("momentum",)
    meets: ClassVar[Literal["first", "meanwhile", "never"]] = "never"
    every: int = 50
    lr: float = 0.7
    momentum: float = 0.5
    pull: float = 0.7

    def __post_init__(self) -> None:
        self.check_every()
        check_range(self.name(), "lr", self.lr, 0, math.inf)
        check_range(self.name(), "momentum", self.momentum, 0, 1, open_high=True)
        check_range(self.name(), "pull", self.pull, 0, math.inf)

    def check(self, exchange: Exchange) -> None:
        """Refuse codecs and memories, which are made for averages over all workers."""
        self.plain_only(exchange)

    def step(self, window: Window) -> Tensor:
        """Take one outer step with this step's partner."""
        window.everyone(self.name())
        slow = window.slow.expand_as(window.fast).contiguous()
        moved = window.fast - slow
        wire = window.exchange.wire
        their_slow, their_moved = wire.swap((slow, moved), pairs(window.step, wire.size))
        # pair means by one formula on both sides, so that partners agree on them to the bit
        pulled = (slow + their_slow) / 2 - slow
        momentum = self.momentum * window.state["momentum"]
        momentum = momentum + self.lr * (moved + their_moved) / 2 + self.pull * pulled
        window.state["momentum"] = momentum
        return slow + momentum


def pairs(step: int, workers: int) -> Tensor:
    """Return (n,) the partner of every worker at this step, the same wherever it is asked; a lone one is its own."""
    shuffled = torch.randperm(workers, generator=torch.Generator().manual_seed(step + 1))
    partners = torch.arange(workers)
    first, second = shuffled[: workers // 2 * 2].view(-1, 2).unbind(1)
    partners[first], partners[second] = second, first
    return partners
