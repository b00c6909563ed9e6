"""Averaged gradients of n workers are the gradient of one batch n times as large."""

from typing import Any

import torch
from torch.nn.utils import parameters_to_vector

from sooner.claims._claim import Claim, Criterion, Measurement, Regime
from sooner.claims.tasks.digits_workers import batches, loss, model
from sooner.cluster import train_cluster
from sooner.task import Task, derived_seed, worker_batches


def apart(seed: int, workers: int, steps: int) -> dict[str, Any]:
    """Return how far a cluster ends from one model with the large batch, and its bytes over those of the formula."""
    task = Task(model, batches, loss, steps)
    run = train_cluster(task, "sgd(lr=0.1)", seed, steps, workers, evaluate_at=[steps])
    alone = task.model(derived_seed(seed, "init"))
    optimizer = torch.optim.SGD(alone.parameters(), lr=0.1, momentum=0.9)
    streams = [worker_batches(task, seed, worker, workers) for worker in range(workers)]
    for step in range(steps):
        optimizer.zero_grad()
        together = tuple(torch.cat(parts) for parts in zip(*(stream[step] for stream in streams), strict=True))
        torch.autograd.backward(task.loss(alone, together))
        optimizer.step()
    ours, theirs = (parameters_to_vector(m.parameters()).detach() for m in (run.model, alone))
    formula = 2 * (workers - 1) / workers * 4 * len(theirs) * steps
    return {"apart": float((ours - theirs).norm() / theirs.norm()), "bytes": run.traffic.wire_bytes / formula}


CLAIM = Claim(
    part="dense",
    paper="",
    headline="Averaging the gradients of n workers trains like one worker with batches n times as large.",
    source="Textbook; the bytes of a ring all-reduce are 2 (n - 1) / n of a gradient",
    experiment=(
        "A perceptron is trained on digits by 2, 4 and 8 simulated workers, and by one torch optimizer on their "
        "batches put together: relative distance of the weights after 50 steps, and bytes over the formula."
    ),
    baseline="torch.optim.SGD with momentum on the large batch; nothing is tuned.",
    experiments={
        "large batch": Measurement(
            apart,
            [{"seed": seed, "workers": n, "steps": 50} for n in (2, 4, 8) for seed in range(2)],
            [{"seed": 0, "workers": 2, "steps": 2}],
        )
    },
    criteria=[
        Criterion(
            "weights at most 1e-4 apart in every run (float32)",
            lambda f: f.largest("large batch", "apart"),
            at_most=1e-4,
            paper="0",
        ),
        Criterion("bytes at most those of the formula", lambda f: f.largest("large batch", "bytes", "x"), at_most=1.0),
        Criterion("and at least those", lambda f: f.smallest("large batch", "bytes", "x"), at_least=1.0),
    ],
    regime=Regime(
        "any training with losses that are means over examples",
        "SGD with momentum",
        "constant, from the first step on",
        "batches of 16 images per worker",
        "an identity, which holds in any regime",
    ),
    minutes=0.3,
    limits="Losses that are means over examples; batch normalization would see smaller batches.",
)
