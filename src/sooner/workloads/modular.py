"""A two-layer network learns addition modulo 59 from half of all pairs, given in one full batch.

It shows grokking: the training pairs are learnt at once, while the held-out pairs stay wrong for hundreds of steps and
then fall into place, which weight decay decides. The phenomenon is from Power et al. (2022: Grokking: Generalization
Beyond Overfitting on Small Algorithmic Datasets, arXiv 2201.02177).
"""

import hashlib
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sooner.workloads._seeded import Batch, Finite, Stream, seeded

steps = 1000
metric = "error"
evaluations = 50  # the fall of the error takes a small part of the run, so the evaluations lie close together

MODULUS = 59
WIDTH = 64
HIDDEN = 128


class Network(nn.Module):
    """Pairs of numbers [N, 2] -> logits of their sum [N, MODULUS]."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(MODULUS, WIDTH)
        self.hidden = nn.Linear(2 * WIDTH, HIDDEN, bias=False)
        self.head = nn.Linear(HIDDEN, MODULUS, bias=False)

    def forward(self, pairs: Tensor) -> Tensor:
        """Return the logits of the sum modulo MODULUS."""
        logits: Tensor = self.head(F.relu(self.hidden(self.embedding(pairs).flatten(1))))
        return logits


def model(seed: int) -> nn.Module:
    """Return the network with weights drawn from `seed`."""
    with seeded(seed):
        return Network()


def batches(seed: int, split: str) -> Stream:
    """Return the full batch (pairs int64 [N, 2], sums int64 [N]) of `split` at every index; the seed plays no part."""
    return Finite(_held_out, 1) if split == "eval" else Stream(_training)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean cross-entropy in nats."""
    pairs, sums = batch
    return F.cross_entropy(model(pairs), sums)


def metrics(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Return the share of wrong sums."""
    pairs, sums = batch
    return {"error": (model(pairs).argmax(dim=1) != sums).float().mean()}


def fingerprint() -> str:
    """Return the modulus and the hash of the division into training and held-out pairs."""
    digest = hashlib.sha256(_split()[0].numpy().tobytes()).hexdigest()
    return f"all {MODULUS**2} pairs modulo {MODULUS}, half of them for training, sha256 {digest}"


def _training(index: int) -> Batch:
    return _labelled(_split()[0])


def _held_out(index: int) -> Batch:
    return _labelled(_split()[1])


def _labelled(pairs: Tensor) -> Batch:
    return pairs, pairs.sum(dim=1) % MODULUS


@cache
def _split() -> tuple[Tensor, Tensor]:
    """Return (training pairs, held-out pairs), the same for every seed: else a run would train on another's test."""
    order = np.random.default_rng(MODULUS).permutation(MODULUS**2)
    pairs = torch.from_numpy(np.stack([order // MODULUS, order % MODULUS], axis=1))
    half = (len(pairs) + 1) // 2
    return pairs[:half], pairs[half:]
