"""The clients of `digits_clients` with fewer classes each, Dirichlet 0.1, and a tenth of the training labels wrong."""

import torch
from torch import Tensor

from sooner.claims.tasks.digits_workers import batches, fingerprint, loss, metrics, model
from sooner.workloads._digits import CLASSES
from sooner.workloads._seeded import Batch
from sooner.workloads.digits_federated import Client

__all__ = ["batches", "evaluations", "fingerprint", "loss", "metric", "metrics", "model", "shards", "steps"]

steps = 160
metric = "loss"
evaluations = 16

ALPHA = 0.1
WRONG = 0.1


class NoisyClient(Client):
    """A client that believes some wrong labels, always the same ones."""

    def __init__(self, worker: int, workers: int, seed: int) -> None:
        super().__init__(worker, workers, seed, ALPHA)
        images, labels = self.examples
        generator = torch.Generator().manual_seed(seed + worker)
        wrong = torch.rand(len(labels), generator=generator) < WRONG
        away = torch.randint(1, CLASSES, (len(labels),), generator=generator)
        self.labels: Tensor = torch.where(wrong, (labels + away) % CLASSES, labels)
        self.examples: Batch = (images, self.labels)


def shards(worker: int, workers: int, seed: int) -> NoisyClient:
    """Return the training data of one client; how they are divided depends on `seed`."""
    return NoisyClient(worker, workers, seed)
