"""Quadratic losses of workers that have nothing in common: where memories and codecs show exactly what they do."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor

from sooner.claims._claim import Measurement
from sooner.communication._codec import Codec
from sooner.communication._exchange import Exchange
from sooner.communication._memory import Memory
from sooner.communication._refusals import only
from sooner.communication._wire import Sim
from sooner.foundation.layout import Layout
from sooner.part import load
from sooner.recipe.text import parse

TUNING_SEED = 1_000
RATES = tuple(4.0**-i for i in range(6))
"""Learning rates that tuning may choose from, over the largest that gradient descent stands."""
REACHED = 1e-8
"""Excess loss, relative to that of the start, whose first round is noted."""


class Quadratics:
    """Losses ``(x - b_i)^T A_i (x - b_i) / 2`` with curvatures between 0.01 and 1, in float64.

    Args:
        seed: of everything.
        workers: how many there are.
        size: of ``x``.
        different: whether every worker has its own A_i and b_i, or all have those of the first.
    """

    def __init__(self, seed: int, workers: int, size: int, different: bool = True) -> None:
        generator = torch.Generator().manual_seed(seed)
        turned = torch.linalg.qr(torch.randn(workers, size, size, generator=generator, dtype=torch.float64)).Q
        curvatures = 10 ** (-2 * torch.rand(workers, 1, size, generator=generator, dtype=torch.float64))
        self.a = turned * curvatures @ turned.mT
        self.b = torch.randn(workers, size, generator=generator, dtype=torch.float64)
        if not different:
            self.a, self.b = self.a[:1].expand_as(self.a), self.b[:1].expand_as(self.b)
        self.best = torch.linalg.solve(self.a.mean(0), (self.a @ self.b[..., None]).mean(0)[:, 0])
        self.smoothness = float(torch.linalg.eigvalsh(self.a.mean(0))[-1])

    def gradients(self, x: Tensor) -> Tensor:
        """Return every worker's gradient (workers, size) at ``x`` (size,)."""
        found: Tensor = (self.a @ (x - self.b)[..., None])[..., 0]
        return found

    def excess(self, x: Tensor) -> float:
        """Return how far the mean loss at ``x`` is above its minimum, over the same at 0."""
        distances = torch.stack((x - self.best, self.best))
        above = torch.einsum("ni,ij,nj->n", distances, self.a.mean(0), distances)
        return float(above[0] / above[1])


def exchange_of(arm: str, workers: int, size: int) -> Exchange:
    """Return what the communication parts of a text such as ``top_k(ratio=0.02) + ef21`` make of vectors (size,)."""
    parts = [load(call.name)(**call.settings) for call in parse(arm)]
    return Exchange(Layout({"x": (size,)}), Sim(workers), only(parts, Codec), only(parts, Memory))


def descend(
    arm: str, seed: int, rate: float, rounds: int, workers: int, size: int, noise: float, different: bool
) -> dict[str, Any]:
    """Run gradient descent; return the mean excess loss over the last eighth, the round that reached, and bytes."""
    problem, generator = Quadratics(seed, workers, size, different), torch.Generator().manual_seed(seed + 1)
    exchange = exchange_of(arm, workers, size)
    x, tail, reached = torch.zeros(size, dtype=torch.float64), [], None
    for number in range(1, rounds + 1):
        gradients = problem.gradients(x)
        if noise:
            gradients += noise * torch.randn(workers, size, generator=generator, dtype=torch.float64)
        x = x - rate / problem.smoothness * exchange(gradients)
        if number % 25 == 0 or number > rounds - rounds // 8:
            excess = problem.excess(x)
            if not excess < 1e12:  # also NaN
                return {"excess": None, "reached": None, "bytes": exchange.wire.traffic.payload_bytes}
            reached = number if reached is None and excess <= REACHED else reached
            tail += [excess] if number > rounds - rounds // 8 else []
    mean = math.fsum(tail) / len(tail)
    return {"excess": mean, "reached": reached, "bytes": exchange.wire.traffic.payload_bytes}


@functools.cache
def best_rate(arm: str, rounds: int, workers: int, size: int, noise: float, different: bool) -> float:
    """Return the learning rate that ends lowest on the tuning seed."""
    ends = {rate: descend(arm, TUNING_SEED, rate, rounds, workers, size, noise, different)["excess"] for rate in RATES}
    return min(ends, key=lambda rate: math.inf if ends[rate] is None else ends[rate])


def measure(
    arm: str,
    seed: int,
    rounds: int = 1500,
    workers: int = 8,
    size: int = 200,
    noise: float = 0.0,
    different: bool = True,
) -> dict[str, Any]:
    """Return what gradient descent with the communication parts of `arm` reaches at its best learning rate.

    The rate is tuned on a seed of its own, so a wider choice helps every arm alike.
    """
    rate = best_rate(arm, rounds, workers, size, noise, different)
    found = descend(arm, seed, rate, rounds, workers, size, noise, different)
    return {**found, "rate": rate, "edge": rate in (RATES[0], RATES[-1])}


def cases(arms: list[str], seeds: int = 6, **more: Any) -> list[dict[str, Any]]:
    """Return the cases of every arm on every seed."""
    return [{"arm": arm, "seed": seed, **more} for arm in arms for seed in range(seeds)]


def descents(arms: list[str], rounds: int | None = None, **how: Any) -> Measurement:
    """Return the measurement of arms on six seeds, all in one setting; its miniature takes 40 rounds on one seed."""
    long = {} if rounds is None else {"rounds": rounds}
    return Measurement(measure, cases(arms, **long, **how), cases(arms, seeds=1, rounds=40, **how))
