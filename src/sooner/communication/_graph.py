"""Graphs of workers that gossip, and the matrices by which they mix their weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sooner.error import SoonerError

KINDS = ("ring", "torus", "exponential", "random", "full")

Edges = tuple[tuple[int, int], ...]


def mixing(graph: str | Edges, workers: int, degree: int, number: int) -> Tensor:
    """Return (n, n) float64, symmetric and doubly stochastic: Metropolis weights of the graph.

        w_ij = 1 / (1 + max(deg_i, deg_j)) for neighbours,   w_ii = 1 - sum_j w_ij

    Args:
        graph: its kind, or the pairs of workers that are neighbours.
        workers: n.
        degree: of a random graph.
        number: of the round; a random graph is another one in every round.

    Raises:
        SoonerError: it is not connected.
    """
    near = _neighbours(graph, workers, degree, number)
    near |= near.T.clone()
    near.fill_diagonal_(False)
    _check_connected(near)
    degrees = near.sum(1).double()
    weights = near / (1 + torch.maximum(degrees[:, None], degrees[None]))
    return weights + torch.diag(1 - weights.sum(1))


def _neighbours(graph: str | Edges, workers: int, degree: int, number: int) -> Tensor:
    """Return (n, n) bool, at least one direction of every edge."""
    near = torch.zeros(workers, workers, dtype=torch.bool)
    at = torch.arange(workers)
    if not isinstance(graph, str):
        for one, other in graph:
            if not (0 <= one < workers and 0 <= other < workers):
                raise SoonerError(f"gossip: the edge ({one}, {other}) is not between two of workers 0 to {workers - 1}")
            near[one, other] = True
    elif graph == "full":
        near[:] = True
    elif graph == "ring":
        near[at, (at + 1) % workers] = True
    elif graph == "torus":
        rows = next(r for r in range(math.isqrt(workers), 0, -1) if workers % r == 0)
        columns = workers // rows
        row, column = at // columns, at % columns
        near[at, row * columns + (column + 1) % columns] = True
        near[at, (row + 1) % rows * columns + column] = True
    elif graph == "exponential":
        for power in range(max(1, workers - 1).bit_length()):
            near[at, (at + 2**power) % workers] = True
    else:  # random rings, so that it is connected
        generator = torch.Generator().manual_seed(number)
        for _ in range(math.ceil(degree / 2)):
            order = torch.randperm(workers, generator=generator)
            near[order, order.roll(1)] = True
    return near


def _check_connected(near: Tensor) -> None:
    reached = torch.zeros(len(near), dtype=torch.bool)
    reached[0] = True
    for _ in range(len(near)):
        reached |= near[reached].any(0)
    lost = (~reached).nonzero()
    if len(lost):
        raise SoonerError(
            f"gossip: worker {int(lost[0])} hears nothing of worker 0 (the graph is not connected); add edges between "
            "them"
        )
