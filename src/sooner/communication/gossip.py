"""Gossip: no server; every worker averages its weights with those of its neighbours on a graph, a few times over.

    every H steps, Q times:   theta_i <- sum_j w_ij theta_j
    w_ij = 1 / (1 + max(deg_i, deg_j)) for neighbours,   w_ii = 1 - sum_j w_ij

Use it when there is no server, or links between some workers only. With `sam` it is DFedSAM, with several mixing steps
also DFedSAM-MGS; with one local step it is D-PSGD.

Leave it when an average of all workers can be had: it is that of a fully connected graph, in one mixing step.

It costs the weights on the wire to every neighbour, Q times per H steps; no state; no pass. Bytes grow with Q, so
compare by them.

Shi et al., 2023, arXiv 2302.04083; the weights are those of Metropolis, doubly stochastic on any graph: others would
let some workers count more. A random graph is another one in every round.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from sooner.communication._exchange import Exchange
from sooner.communication._graph import KINDS, Edges, mixing
from sooner.communication._outer import Outer, Window
from sooner.error import SoonerError, nearest
from sooner.part import check_range
from sooner.space import Choice, Knob


@dataclass(frozen=True)
class Gossip(Outer):
    """Mixes weights with neighbours.

    Args:
        every: optimizer steps between two exchanges, default 10.
        graph: "ring" (default), "torus", "exponential" (neighbours 1, 2, 4, ... away), "random", "full", or pairs of
            workers, such as ``((0, 1), (1, 2))``.
        mixing_steps: Q, default 1.
        degree: neighbours of a worker in a random graph, about; default 4.

    Raises:
        SoonerError: a value out of range, or a graph that is not connected.
    """

    space: ClassVar[Mapping[str, Knob]] = {"every": Choice(5, 10, 20, 50)}
    meets: ClassVar[Literal["first", "meanwhile", "never"]] = "never"
    every: int = 10
    graph: str | Edges = "ring"
    mixing_steps: int = 1
    degree: int = 4

    def __post_init__(self) -> None:
        self.check_every()
        check_range("gossip", "mixing_steps", self.mixing_steps, 1, math.inf, whole=True)
        check_range("gossip", "degree", self.degree, 1, math.inf, whole=True)
        if isinstance(self.graph, str) and self.graph not in KINDS:
            raise SoonerError(
                f"gossip: graph={self.graph!r}{nearest(self.graph, KINDS)} is none of {', '.join(KINDS)}; choose one, "
                "or give pairs of workers"
            )
        if not isinstance(self.graph, str) and not _pairs(self.graph):
            raise SoonerError(
                f"gossip: graph={self.graph!r} holds something else than pairs of workers' numbers; write them as in "
                f"((0, 1), (1, 2)), or choose one of {', '.join(KINDS)}"
            )

    def check(self, exchange: Exchange) -> None:
        """Refuse codecs and memories, which are made for averages over all, and graphs that are not connected."""
        self.plain_only(exchange)
        mixing(self.graph, exchange.wire.size, self.degree, 1)

    def step(self, window: Window) -> Tensor:
        """Mix Q times."""
        window.everyone("gossip")
        wire, v = window.exchange.wire, window.fast
        weights = mixing(self.graph, wire.size, self.degree, window.round)
        for _ in range(self.mixing_steps):
            v = wire.mix(v, weights)
        return v


def _pairs(graph: object) -> bool:
    """Whether this is a sequence of pairs of whole numbers."""
    return isinstance(graph, tuple | list) and all(
        isinstance(edge, tuple | list) and [type(end) for end in edge] == [int, int] for edge in graph
    )
