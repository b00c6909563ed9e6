"""A small convolutional network with batch normalization reads 1,797 real handwritten digits of 8x8 pixels.

It shows vision training in miniature: SGD with momentum keeps up with Adam, and the weights before each normalization
are scale-invariant, so that weight decay acts on them only through the effective learning rate. The images are those
of Alpaydin and Kaynak (1998, Optical Recognition of Handwritten Digits, UCI) that scikit-learn carries.
"""

import hashlib
from functools import cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sooner.error import SoonerError
from sooner.workloads._seeded import Batch, Finite, Stream, generator, seeded

steps = 400
metric = "loss"  # not the error: among 450 images a trained network misses 5 to 10, which is too coarse a scale
evaluations = 20

CLASSES = 10
BATCH = 64
TEST_SHARE = 0.25


def model(seed: int) -> nn.Module:
    """Return the network, images [N, 1, 8, 8] -> logits [N, 10], with weights drawn from `seed`."""
    with seeded(seed):
        return Network()


class Network(nn.Module):
    """Three normalized convolutions, the mean over the image, and the linear layer `head`."""

    def __init__(self) -> None:
        super().__init__()
        self.first = _convolution(1, 16, stride=1)  # [N, 16, 8, 8]
        self.second = _convolution(16, 32, stride=2)  # [N, 32, 4, 4]
        self.third = _convolution(32, 32, stride=1)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the ten classes."""
        x = self.third(self.second(self.first(images)))
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


def _convolution(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


def batches(seed: int, split: str) -> Stream:
    """Return batches (images [N, 1, 8, 8], labels int64 [N]): shuffled passes for training, the whole test set once."""
    if split == "eval":
        return Finite(_test_set, 1)
    return Stream(partial(_shuffled, seed))


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean cross-entropy in nats."""
    images, labels = batch
    return F.cross_entropy(model(images), labels)


def metrics(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Return the share of wrong answers."""
    images, labels = batch
    return {"error": (model(images).argmax(dim=1) != labels).float().mean()}


def fingerprint() -> str:
    """Return the number of images and the hash of pixels, labels and split."""
    digest = hashlib.sha256()
    for split in ("train", "eval"):
        for tensor in _images(split):
            digest.update(tensor.numpy().tobytes())
    return f"scikit-learn load_digits, 1797 images of 8x8 pixels, sha256 {digest.hexdigest()}"


def _test_set(index: int) -> Batch:
    return _images("eval")


def _shuffled(seed: int, index: int) -> Batch:
    """Return batch `index` of an endless row of passes; a pass drops the incomplete batch at its end."""
    images, labels = _images("train")
    epoch, position = divmod(index, len(labels) // BATCH)
    order = generator(seed, "train", epoch).permutation(len(labels))
    chosen = torch.from_numpy(order[position * BATCH : (position + 1) * BATCH])
    return images[chosen], labels[chosen]


@cache
def _images(split: str) -> tuple[Tensor, Tensor]:
    """Return (images, labels) of a split that is the same for every seed and equally divided in every class."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise SoonerError(
            "the workload 'digits' reads the images that scikit-learn ships: pip install sooner[digits]"
        ) from None
    images, labels = load_digits(return_X_y=True)
    in_test = np.zeros(len(labels), dtype=bool)
    for label in range(CLASSES):
        members = np.random.default_rng([1797, label]).permutation(np.flatnonzero(labels == label))
        in_test[members[: round(TEST_SHARE * len(members))]] = True
    chosen = in_test if split == "eval" else ~in_test
    pixels = torch.from_numpy(images[chosen]).float().view(-1, 1, 8, 8) / 16  # 0 .. 1, mean about 0.3
    return pixels - 0.3, torch.from_numpy(labels[chosen]).long()
