"""What the simulated cluster shows exactly, and what it costs.

python benchmarks/simulated_cluster.py [--rounds 1500] [--measured 15] [--only quadratics|cost|federated]

quadratics: how far each memory gets when workers have different data. cost: seconds per round against the same
arithmetic written by hand. federated: methods on clients with few classes each, per round and per gradient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import cyclopts
import torch
from torch import Tensor, nn

from sooner.cluster import train_cluster
from sooner.cluster.workers import Cluster
from sooner.communication import EF, EF21, Dense, EControl, EF21Momentum, Exchange, Layout, Sim, TopK
from sooner.communication._codec import Codec
from sooner.communication._memory import Memory
from sooner.recipe import Recipe
from sooner.task import Task
from sooner.workloads import find

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


def perceptron(width: int) -> nn.Module:
    """Return a net of 99,690 parameters where `width` is 280."""
    layers = (nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
    return nn.Sequential(*layers)


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean cross-entropy."""
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


class ByHand:
    """Local SGD with momentum, as somebody would write it who simulates this one method: weights [n, d], vmap, flat.

    Args:
        model: gives the shapes and the start.
        x, y: batches of all workers, (steps, workers, rows, ...).
        rate, momentum: of every worker.
    """

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor, rate: float, momentum: float) -> None:
        self.x, self.y, self.rate, self.momentum, self.step = x, y, rate, momentum, 0
        self.shapes = {name: p.shape for name, p in model.named_parameters()}
        flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
        self.weights = flat.repeat(x.shape[1], 1)
        self.buffer = torch.zeros_like(self.weights)
        sizes = [shape.numel() for shape in self.shapes.values()]

        def loss(weights: Tensor, x: Tensor, y: Tensor) -> Tensor:
            parts = zip(self.shapes.items(), weights.split(sizes), strict=True)
            parameters = {name: part.view(shape) for (name, shape), part in parts}
            return nn.functional.cross_entropy(torch.func.functional_call(model, parameters, (x,)), y)

        self.gradient = torch.func.vmap(torch.func.grad_and_value(loss))

    def round(self, steps: int) -> None:
        """Let all workers take some steps, and average their weights."""
        for _ in range(steps):
            gradient, _ = self.gradient(self.weights, self.x[self.step], self.y[self.step])
            self.buffer.mul_(self.momentum).add_(gradient)
            self.weights.sub_(self.buffer, alpha=self.rate)
            self.step = (self.step + 1) % len(self.x)
        self.weights.copy_(self.weights.mean(0).expand_as(self.weights))


def cost(measured: int = 15, workers: int = 64, width: int = 280, rows: int = 32, every: int = 5) -> float:
    """Print and return seconds per round of local SGD, over those of the same arithmetic by hand (median).

    Args:
        measured: rounds timed of each.
        workers: how many there are.
        width: of the perceptron.
        rows: in a batch.
        every: local steps per round.
    """
    from _interleaved import interleave, spread  # here, for tests load this file from elsewhere

    torch.manual_seed(0)
    steps = 2 * every
    x, y = torch.randn(steps, workers, rows, 64), torch.randint(10, (steps, workers, rows))
    turns = [[(x[step % steps, w], y[step % steps, w]) for step in range(steps)] for w in range(workers)]

    class Endless:
        def __init__(self, worker: int) -> None:
            self.batches = turns[worker]

        def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
            return self.batches[step % steps]

    model = perceptron(width)
    task = Task(
        model=lambda seed: model,
        batches=lambda seed, split: Endless(0),
        loss=cross_entropy,
        steps=steps,
        shards=lambda worker, workers, seed: Endless(worker),
    )
    by_hand = ByHand(perceptron(width), x, y, 0.01, 0.9)
    by_hand.weights.copy_(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
    recipe = Recipe(f"sgd(lr=0.01, momentum=0.9) + local_sgd(every={every})")
    cluster, taken = Cluster(task, recipe, 0, steps, workers), 0

    def ours() -> None:
        nonlocal taken
        for _ in range(every):
            cluster.step(taken)
            taken += 1

    size = by_hand.weights.shape[1]
    print(f"== cost: {workers} workers, {size:,} parameters, batches of {rows}, {every} steps per round, one thread")
    by_hand.round(every)
    ours()
    cluster.lanes.write(cluster.average(), model)
    found = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    apart = float((found - by_hand.weights[0]).norm() / found.norm())
    print(f"  after a round the weights of both agree to {apart:.0e}")
    done = interleave({"by hand": lambda: by_hand.round(every), "sooner": ours}, measured, {"by hand": 1, "sooner": 1})
    ratios = sorted(one.cpu["sooner"] / one.cpu["by hand"] for one in done)
    print(f"  seconds per round over those by hand: {spread(ratios)}   target 1.5")
    return ratios[len(ratios) // 2]


CLIENTS = str(Path(__file__).parents[1] / "src" / "sooner" / "claims" / "tasks" / "digits_clients.py")
"""The digits, divided by class with Dirichlet 0.3, and a perceptron."""

FEDERATED: Mapping[str, str] = {
    "fedavg": "local_sgd(every={})",
    "fedprox": "local_sgd(every={}) + proximal",
    "fedsam": "local_sgd(every={}) + sam",
    "fedspeed": "local_sgd(every={}) + fedspeed",
    "fedhyper g": "fedhyper(every={}, mode='G')",
    "fedhyper gm": "fedhyper(every={}, mode='GM')",
    "fedhyper cl": "local_sgd(every={}) + fedhyper_clients(mode='CL')",
}
"""What is compared, beside plain SGD and a share of the clients per round; all with the same local steps."""


def federated(
    workload: str = CLIENTS,
    clients: int = 20,
    share: float = 0.2,
    every: int = 10,
    steps: int = 400,
    rates: Sequence[float] = (0.03, 0.1, 0.3, 1.0, 3.0),
    seeds: Sequence[int] = (1, 2, 3, 4, 5, 6),
    arms: Sequence[str] = tuple(FEDERATED),
) -> dict[str, list[float]]:
    """Print rounds and gradients to the target, over those of FedAvg; return the losses at the end by arm and seed.

    The learning rate of every arm is tuned on another seed. The target is what tuned FedAvg reaches on each of three
    more within three quarters of the rounds.
    """
    task = find(workload)
    due = list(range(0, steps + 1, every))

    def run(arm: str, rate: float, seed: int) -> tuple[list[float], float]:
        recipe = f"sgd(lr={rate}, momentum=0.0) + {FEDERATED[arm].format(every)} + sampled(share={share})"
        made = train_cluster(task, recipe, seed, steps, clients, evaluate_at=due)
        return (made.average if made.diverged_at is None else [math.inf]), made.gradients

    print(
        f"== federated: {task.name}, {clients} clients, {share:.0%} per round, {every} steps, {steps // every} rounds"
    )
    tuned = {arm: min(rates, key=lambda rate: run(arm, rate, 1000)[0][-1]) for arm in arms}
    references = [run("fedavg", tuned["fedavg"], seed)[0] for seed in (2001, 2002, 2003)]
    target = max(min(curve[: 1 + 3 * len(due) // 4]) for curve in references)
    shown = {arm: f"{rate:g}{' (edge)' * (rate in (rates[0], rates[-1]))}" for arm, rate in tuned.items()}
    print(f"  target: loss {target:.3f}; rates tuned on seed 1000: {shown}", flush=True)
    rounds: dict[str, list[float]] = {}
    ends: dict[str, list[float]] = {}
    for arm in arms:
        gradients = 1.0
        for seed in seeds:
            curve, gradients = run(arm, tuned[arm], seed)
            reached = [i for i, value in enumerate(curve) if value <= target]
            rounds.setdefault(arm, []).append(max(1, reached[0]) if reached else math.inf)
            ends.setdefault(arm, []).append(curve[-1])
        pairs = [mine / theirs for mine, theirs in zip(rounds[arm], rounds["fedavg"], strict=True) if theirs < math.inf]
        per_round = math.exp(sum(map(math.log, pairs)) / len(pairs)) if pairs else math.nan
        print(
            f"  {arm:12} rounds {rounds[arm]}   per round {per_round:.2f}, per gradient {gradients * per_round:.2f}   "
            f"mean loss at the end {sum(ends[arm]) / len(ends[arm]):.3f}",
            flush=True,
        )
    return ends


def main(*, rounds: int = 1500, measured: int = 15, only: str = "") -> None:
    """Print the tables.

    Args:
        rounds: steps of every run on quadratics.
        measured: rounds of which the cost is timed.
        only: one of the tables.
    """
    torch.set_num_threads(1)
    if only in ("", "quadratics"):
        quadratics(rounds)
    if only in ("", "cost"):
        cost(measured)
    if only in ("", "federated"):
        federated()


if __name__ == "__main__":
    cyclopts.run(main)
