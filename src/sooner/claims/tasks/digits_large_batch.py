"""The network of `digits` learns from 448 of the images, in batches of half of them: two steps make an epoch.

The other 1,349 images are the test set, so that the share of wrong answers is a fine scale.
"""

import hashlib
from functools import cache

import torch

from sooner.workloads._digits import Pair, divided, loss, metrics, shuffled_passes
from sooner.workloads._seeded import Stream, generator
from sooner.workloads.digits import model

__all__ = ["batches", "evaluations", "fingerprint", "loss", "metric", "metrics", "model", "steps"]

steps = 120
metric = "error"
evaluations = 24

TRAINING = 448
BATCH = 224


def batches(seed: int, split: str) -> Stream:
    """Return batches (images [N, 1, 8, 8], labels int64 [N]): shuffled passes for training, the whole test set once."""
    return shuffled_passes(seed, split, BATCH, few)


def fingerprint() -> str:
    """Return the hash of the training images."""
    return f"448 of scikit-learn's digits, sha256 {hashlib.sha256(few('train')[0].numpy().tobytes()).hexdigest()}"


@cache
def few(split: str) -> Pair:
    """Return (images, labels) in an order that is the same for every seed: the first for training, the rest to test."""
    parts = [divided(each) for each in ("train", "eval")]
    images, labels = (torch.cat(both) for both in zip(*parts, strict=True))
    order = torch.from_numpy(generator(TRAINING, "train", 0).permutation(len(labels)))
    chosen = order[TRAINING:] if split == "eval" else order[:TRAINING]
    return images[chosen], labels[chosen]
