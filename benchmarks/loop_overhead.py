"""What the reference loop costs: `sooner.train` against the same training written by hand.

    python benchmarks/loop_overhead.py [--optimizer AdamW] [--pairs 15] [--steps 200]

Both sides make the same model, see the same batches and run the same class of torch.optim on one thread, without any
evaluation. The hand-written loop is the barest there is: it does not even keep the loss. Target: a median of at most
1.05 at a step of about 3 ms. With --optimizer SGD the step is shorter and the overhead weighs more.
"""

from __future__ import annotations

import statistics

import cyclopts
import torch
import torch.nn.functional as F
from _interleaved import interleave, spread
from torch import Tensor, nn

from sooner.loop import train
from sooner.task import Task, derived_seed

WIDTH = 256
ROWS = 256  # in a batch; with this width, a step takes about 3 ms on one core
LEARNING_RATE = 1e-3
SEED = 1

Batch = tuple[Tensor, Tensor]


def model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 10))


class Batches:
    """Eight batches that come round again, made in advance, so that making them is not measured."""

    def __init__(self, seed: int, split: str) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.made = [
            (torch.randn(ROWS, 64, generator=generator), torch.randint(10, (ROWS,), generator=generator))
            for _ in range(8)
        ]

    def __getitem__(self, index: int) -> Batch:
        return self.made[index % 8]


def loss(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


TASK = Task(model=model, batches=Batches, loss=loss, steps=200)


def by_hand(optimizer_class: str, steps: int) -> nn.Module:
    """Train as one would without sooner."""
    network = model(derived_seed(SEED, "init"))
    batches = Batches(derived_seed(SEED, "order"), "train")
    optimizer = getattr(torch.optim, optimizer_class)(network.parameters(), lr=LEARNING_RATE)
    for step in range(steps):
        value = loss(network, batches[step])
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
    return network


def by_sooner(optimizer_class: str, steps: int) -> nn.Module:
    """Train the same with the reference loop."""
    recipe = f"torch.optim.{optimizer_class}(lr={LEARNING_RATE})"
    return train(TASK, recipe, SEED, steps, evaluate_at=()).model


def main(*, optimizer: str = "AdamW", pairs: int = 15, steps: int = 200) -> None:
    torch.set_num_threads(1)
    ours, theirs = by_sooner(optimizer, 5), by_hand(optimizer, 5)  # also warms both sides up
    same = all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    print(f"torch.optim.{optimizer}, {pairs} pairs of {steps} steps, weights bit-identical: {'yes' if same else 'NO'}")
    sides = {"sooner": lambda: by_sooner(optimizer, steps), "hand": lambda: by_hand(optimizer, steps)}
    rounds = interleave(sides, pairs, dict.fromkeys(sides, 1))
    print(f"a hand-written step takes {1000 * statistics.median(r.wall['hand'] for r in rounds) / steps:.2f} ms")
    for clock in ("wall", "cpu"):
        found = [getattr(r, clock)["sooner"] / getattr(r, clock)["hand"] for r in rounds]
        print(f"{clock:4} ratio sooner / by hand: {spread(found)}   pairs: {' '.join(f'{x:.3f}' for x in found)}")


if __name__ == "__main__":
    cyclopts.run(main)
