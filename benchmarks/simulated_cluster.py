"""What the simulated cluster shows exactly: how far each memory gets when workers have different data.

python benchmarks/simulated_cluster.py [--rounds 1500]
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import cyclopts
import torch
from torch import Tensor

from sooner.communication import EF, EF21, Dense, EControl, EF21Momentum, Exchange, Layout, Sim, TopK
from sooner.communication._codec import Codec
from sooner.communication._memory import Memory

WORKERS, SIZE, RATIO = 8, 200, 0.02

ARMS: Mapping[str, tuple[Codec, tuple[Memory | None, ...]]] = {
    "dense": (Dense(), (None,)),
    "top-k alone": (TopK(RATIO), (None,)),
    "top-k + ef": (TopK(RATIO), (EF(),)),
    "top-k + ef21": (TopK(RATIO), (EF21(),)),
    "top-k + ef21_momentum": (TopK(RATIO), (EF21Momentum(),)),
    "top-k + econtrol": (TopK(RATIO), tuple(EControl(eta) for eta in (0.01, 0.02, 0.05))),
}
"""What is compared, with the memories that tuning may choose from."""

RATES = tuple(2.0**-i for i in range(1, 10))
"""Learning rates that tuning may choose from, over the largest that gradient descent stands."""


class Quadratics:
    """Losses ``(x - b_i)^T A_i (x - b_i) / 2`` of workers that have nothing in common.

    Args:
        seed: of everything.
    """

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        turned = torch.linalg.qr(torch.randn(WORKERS, SIZE, SIZE, generator=generator, dtype=torch.float64)).Q
        curvatures = 10 ** (-2 * torch.rand(WORKERS, 1, SIZE, generator=generator, dtype=torch.float64))
        self.a = turned * curvatures @ turned.mT
        self.b = torch.randn(WORKERS, SIZE, generator=generator, dtype=torch.float64)
        self.best = torch.linalg.solve(self.a.mean(0), (self.a @ self.b[..., None]).mean(0)[:, 0])
        self.smoothness = float(torch.linalg.eigvalsh(self.a.mean(0))[-1])

    def gradients(self, x: Tensor) -> Tensor:
        """Return every worker's gradient (workers, size) at ``x`` (size,)."""
        return (self.a @ (x - self.b)[..., None])[..., 0]

    def excess(self, x: Tensor) -> float:
        """Return how far the mean loss at ``x`` is above its minimum, over the same at 0."""
        distances = torch.stack((x - self.best, self.best))
        above = torch.einsum("ni,ij,nj->n", distances, self.a.mean(0), distances)
        return float(above[0] / above[1])


def descend(codec: Codec, memory: Memory | None, rate: float, noise: float, rounds: int) -> float:
    """Return the mean excess loss over the last eighth of a run of gradient descent; infinity where it diverged.

    Args:
        codec, memory: between the workers.
        rate: learning rate over the largest that gradient descent stands.
        noise: standard deviation of every number of every gradient.
        rounds: steps to take.
    """
    problem, generator = Quadratics(), torch.Generator().manual_seed(1)
    exchange = Exchange(Layout({"x": (SIZE,)}), Sim(WORKERS), codec, memory)
    x, tail = torch.zeros(SIZE, dtype=torch.float64), []
    for step in range(rounds):
        gradients = problem.gradients(x)
        if noise:
            gradients += noise * torch.randn(WORKERS, SIZE, generator=generator, dtype=torch.float64)
        x = x - rate / problem.smoothness * exchange(gradients)
        if step >= rounds - rounds // 8:
            tail.append(problem.excess(x))
    found = sum(tail) / len(tail)
    return found if math.isfinite(found) else math.inf


def quadratics(
    rounds: int = 1500,
    noises: Sequence[float] = (0.0, 0.3),
    rates: Sequence[float] = RATES,
    arms: Sequence[str] = tuple(ARMS),
) -> dict[tuple[str, float], float]:
    """Print and return how far every arm gets at its best learning rate (and memory), by arm and noise."""
    print(f"== quadratics: {WORKERS} workers, {SIZE} numbers, top {RATIO:.0%}, {rounds} rounds; mean excess loss")
    found = {}
    for name in arms:
        codec, memories = ARMS[name]
        for noise in noises:
            runs = {(rate, m): descend(codec, m, rate, noise, rounds) for rate in rates for m in memories}
            rate, memory = min(runs, key=runs.__getitem__)
            found[name, noise] = runs[rate, memory]
            edge = " (edge)" if rate in (rates[0], rates[-1]) and len(rates) > 1 else ""
            print(
                f"  {name:24} noise {noise:<4g} {found[name, noise]:10.2e}   rate {rate:g}{edge}   {memory}", flush=True
            )
    return found


def main(*, rounds: int = 1500) -> None:
    """Print the table.

    Args:
        rounds: steps of every run on quadratics.
    """
    torch.set_num_threads(1)
    quadratics(rounds)


if __name__ == "__main__":
    cyclopts.run(main)
