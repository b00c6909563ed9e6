"""The images of `digits` are read by a perceptron without biases: workers draw their batches from the same images.

Small enough for races of many workers. All its parameters are matrices, so that codecs for matrices have all of it.
"""

from torch import nn

from sooner.workloads._digits import fingerprint, loss, metrics, shuffled_passes
from sooner.workloads._seeded import Stream, seeded

__all__ = ["batches", "evaluations", "fingerprint", "loss", "metric", "metrics", "model", "steps"]

steps = 96
metric = "loss"
evaluations = 24

WIDTH = 64
BATCH = 16


def model(seed: int) -> nn.Module:
    """Return the network, images [N, 1, 8, 8] -> logits [N, 10], with weights drawn from `seed`."""
    with seeded(seed):
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, WIDTH, bias=False),
            nn.ReLU(),
            nn.Linear(WIDTH, WIDTH, bias=False),
            nn.ReLU(),
            nn.Linear(WIDTH, 10, bias=False),
        )


def batches(seed: int, split: str) -> Stream:
    """Return batches (images [N, 1, 8, 8], labels int64 [N]): shuffled passes for training, the whole test set once."""
    return shuffled_passes(seed, split, BATCH)
