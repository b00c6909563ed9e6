"""What the reference loop costs: `sooner.train` against the same training written by hand.

    python benchmarks/loop_overhead.py [--optimizer AdamW] [--pairs 31] [--steps 100]

Both sides make the same model, see the same batches and run the same class of torch.optim on one thread, without any
evaluation. The hand-written loop is the barest there is: it does not even keep the loss. The first part answers at a
step of about 3 ms (target: a median ratio of at most 1.05); the second takes a model so small that the loop itself is
what is timed, and gives the overhead in microseconds, which does not depend on the model.
"""

from __future__ import annotations

import statistics
from functools import partial

import cyclopts
import torch
import torch.nn.functional as F
from _interleaved import Round, interleave, spread
from torch import Tensor, nn

from sooner.loop import train
from sooner.task import Task, derived_seed

LEARNING_RATE = 1e-3
SEED = 1

Batch = tuple[Tensor, Tensor]


def model(width: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))


class Batches:
    """Eight batches of `rows` rows that come round again, made in advance, so that making them is hardly measured."""

    def __init__(self, rows: int, seed: int, split: str) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.made = [
            (torch.randn(rows, 64, generator=generator), torch.randint(10, (rows,), generator=generator))
            for _ in range(8)
        ]

    def __getitem__(self, index: int) -> Batch:
        return self.made[index % 8]


def loss(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def task(width: int, rows: int) -> Task:
    return Task(model=partial(model, width), batches=partial(Batches, rows), loss=loss, steps=100)


def by_hand(task: Task, optimizer: str, steps: int) -> nn.Module:
    """Train as one would without sooner."""
    network = task.model(derived_seed(SEED, "init"))
    batches = task.batches(derived_seed(SEED, "order"), "train")
    stepper = getattr(torch.optim, optimizer)(network.parameters(), lr=LEARNING_RATE)
    for step in range(steps):
        value = task.loss(network, batches[step])
        value.backward()
        stepper.step()
        stepper.zero_grad()
    return network


def by_sooner(task: Task, optimizer: str, steps: int) -> nn.Module:
    """Train the same with the reference loop."""
    return train(task, f"torch.optim.{optimizer}(lr={LEARNING_RATE})", SEED, steps, evaluate_at=()).model


def measure(task: Task, optimizer: str, pairs: int, steps: int) -> list[Round]:
    sides = {"sooner": partial(by_sooner, task, optimizer, steps), "hand": partial(by_hand, task, optimizer, steps)}
    ours, theirs = (side(task, optimizer, 5) for side in (by_sooner, by_hand))  # also warms both up
    same = all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    print(f"torch.optim.{optimizer}, {pairs} pairs of {steps} steps, weights bit-identical: {'yes' if same else 'NO'}")
    return interleave(sides, pairs, dict.fromkeys(sides, 1))


def main(*, optimizer: str = "AdamW", pairs: int = 31, steps: int = 100) -> None:
    torch.set_num_threads(1)
    rounds = measure(task(width=256, rows=288), optimizer, pairs, steps)
    print(f"  a hand-written step takes {1e3 * statistics.median(r.wall['hand'] for r in rounds) / steps:.2f} ms")
    for clock in ("wall", "cpu"):
        found = [getattr(r, clock)["sooner"] / getattr(r, clock)["hand"] for r in rounds]
        print(f"  {clock:4} time, sooner over by hand: {spread(found)}")
        print(f"    pairs: {' '.join(f'{ratio:.3f}' for ratio in found)}")

    rounds = measure(task(width=8, rows=4), optimizer, pairs, 3 * steps)
    extra = [1e6 * (r.cpu["sooner"] - r.cpu["hand"]) / (3 * steps) for r in rounds]
    low, middle, high = statistics.quantiles(extra, n=4)
    print(f"  overhead per step: {middle:.0f} us [middle half {low:.0f} to {high:.0f}], {middle / 30:.1f} % of 3 ms")


if __name__ == "__main__":
    cyclopts.run(main)
