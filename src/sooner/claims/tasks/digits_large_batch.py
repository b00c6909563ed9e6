"""The network of `digits` learns from 448 of the images, in batches of half of them: two steps make an epoch.

The other 1,349 images are the test set, so that the share of wrong answers is a fine scale.
"""

import hashlib
from functools import cache, partial

import torch
from torch import Tensor

from sooner.workloads._seeded import Batch, Finite, Stream, generator
from sooner.workloads.digits import _images as divided
from sooner.workloads.digits import loss, metrics, model

__all__ = ["batches", "evaluations", "fingerprint", "loss", "metric", "metrics", "model", "steps"]

steps = 120
metric = "error"
evaluations = 24

TRAINING = 448
BATCH = 224


def batches(seed: int, split: str) -> Stream:
    """Return batches (images [N, 1, 8, 8], labels int64 [N]): shuffled passes for training, the whole test set once."""
    return Finite(_test_set, 1) if split == "eval" else Stream(partial(_shuffled, seed))


def fingerprint() -> str:
    """Return the hash of the training images."""
    return (
        f"448 of scikit-learn's digits, sha256 {hashlib.sha256(_images()[0][:TRAINING].numpy().tobytes()).hexdigest()}"
    )


def _test_set(index: int) -> Batch:
    images, labels = _images()
    return images[TRAINING:], labels[TRAINING:]


def _shuffled(seed: int, index: int) -> Batch:
    """Return batch `index` of an endless row of passes."""
    images, labels = _images()
    epoch, position = divmod(index, TRAINING // BATCH)
    order = generator(seed, "train", epoch).permutation(TRAINING)
    chosen = torch.from_numpy(order[position * BATCH : (position + 1) * BATCH])
    return images[chosen], labels[chosen]


@cache
def _images() -> tuple[Tensor, Tensor]:
    """Return all images and labels in an order that is the same for every seed; the first ones are for training."""
    parts = [divided(split) for split in ("train", "eval")]
    images, labels = (torch.cat(both) for both in zip(*parts, strict=True))
    order = torch.from_numpy(generator(TRAINING, "train", 0).permutation(len(labels)))
    return images[order], labels[order]
