"""A small convolutional network with batch normalization reads 1,797 real handwritten digits of 8x8 pixels.

It shows vision training in miniature: SGD with momentum keeps up with Adam, and the weights before each normalization
are scale-invariant, so that weight decay acts on them only through the effective learning rate. The images are those
of Alpaydin and Kaynak (1998, Optical Recognition of Handwritten Digits, UCI) that scikit-learn carries.
"""

from torch import nn

from sooner.workloads._digits import CLASSES, WIDTH, Network, fingerprint, loss, metrics, shuffled_passes
from sooner.workloads._seeded import Stream, scaled, seeded

__all__ = ["CLASSES", "batches", "evaluations", "fingerprint", "loss", "metric", "metrics", "model", "steps"]

steps = 400
metric = "loss"  # not the error: among 450 images a trained network misses 5 to 10, which is too coarse a scale
evaluations = 20

BATCH = 64


def model(seed: int, size: float = 1) -> nn.Module:
    """Return the network, images [N, 1, 8, 8] -> logits [N, 10], with weights drawn from `seed`.

    It has about `size` times the parameters.
    """
    width = scaled(WIDTH, size)
    with seeded(seed):
        return Network(nn.BatchNorm2d, width)


def batches(seed: int, split: str) -> Stream:
    """Return batches (images [N, 1, 8, 8], labels int64 [N]): shuffled passes for training, the whole test set once."""
    return shuffled_passes(seed, split, BATCH)
