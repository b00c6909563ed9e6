"""The digits of `digits`, divided among clients by class, are read by a convolutional network with group normalization.

It shows federated learning in miniature: in every client a few classes prevail, so that clients who train on their own
for long go apart, and their average is worse than what any number of them could learn together. How classes are
divided follows Hsu et al. (2019: Measuring the Effects of Non-Identical Data Distribution, arXiv 1909.06335).
"""

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sooner.workloads._digits import Network, divided, fingerprint, loss, metrics
from sooner.workloads._partition import dirichlet
from sooner.workloads._seeded import Batch, generator, seeded
from sooner.workloads.digits import batches

__all__ = ["batches", "evaluations", "fingerprint", "loss", "metric", "metrics", "model", "shards", "steps"]

steps = 400
metric = "loss"
evaluations = 20

ALPHA = 0.3
BATCH = 32
LEAST = 8  # examples of the smallest client


def model(seed: int) -> nn.Module:
    """Return the network, images [N, 1, 8, 8] -> logits [N, 10], with weights drawn from `seed`."""
    with seeded(seed):
        # batch statistics of clients with different classes don't fit each other
        return Network(lambda channels: nn.GroupNorm(4, channels))


def shards(worker: int, workers: int, seed: int) -> "Client":
    """Return the training data of one client; how they are divided depends on `seed`."""
    return Client(worker, workers, seed)


class Client:
    """Images of one client, in an endless row of shuffled passes, cut into batches of one size for all clients.

    Args:
        worker: number of the client.
        workers: how many there are.
        seed: of the division and of the order.
        alpha: how evenly classes are divided; small values give each client few.
    """

    batch_size = BATCH

    def __init__(self, worker: int, workers: int, seed: int, alpha: float = ALPHA) -> None:
        images, labels = divided("train")
        mine = torch.from_numpy(_divided(workers, alpha, seed)[worker])
        self.examples: Batch = images[mine], labels[mine]
        self.labels = labels[mine]
        self._seed = seed + worker

    def __getitem__(self, step: int) -> Batch:
        """Return (images [N, 1, 8, 8], labels int64 [N]); a client with less than a batch sees some images twice."""
        if step < 0:
            raise IndexError(f"batch {step} does not exist: batches count from 0")
        count, end = len(self.labels), (step + 1) * BATCH
        first = step * BATCH // count
        passes = [generator(self._seed, "train", i).permutation(count) for i in range(first, -(-end // count))]
        chosen = torch.from_numpy(np.concatenate(passes)[step * BATCH - first * count :][:BATCH])
        images, labels = self.examples
        return images[chosen], labels[chosen]


@cache
def _divided(workers: int, alpha: float, seed: int) -> list[npt.NDArray[np.int64]]:
    return dirichlet(divided("train")[1].numpy(), workers, alpha, seed, LEAST)
