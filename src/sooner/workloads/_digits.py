"""What the tasks on digits share: the 1,797 images of scikit-learn, their division, and a small convolutional network.

The images are those of Alpaydin and Kaynak (1998, Optical Recognition of Handwritten Digits, UCI).
"""

import hashlib
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sooner.error import SoonerError
from sooner.workloads._seeded import Batch, Finite, Stream, generator

Pair = tuple[Tensor, Tensor]
"""Images and labels."""

CLASSES = 10
TEST_SHARE = 0.25
WIDTH = 16


class Network(nn.Module):
    """Three normalized convolutions, the mean over the image, and the linear layer `head`.

    Args:
        normalized: makes the layer behind a convolution from the number of its channels.
        width: channels of the first convolution; the others have twice as many.
    """

    def __init__(self, normalized: Callable[[int], nn.Module], width: int = WIDTH) -> None:
        super().__init__()
        self.first = _convolution(1, width, 1, normalized)  # [N, width, 8, 8]
        self.second = _convolution(width, 2 * width, 2, normalized)  # [N, 2 * width, 4, 4]
        self.third = _convolution(2 * width, 2 * width, 1, normalized)
        self.head = nn.Linear(2 * width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the ten classes."""
        x = self.third(self.second(self.first(images)))
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


def _convolution(inward: int, outward: int, stride: int, normalized: Callable[[int], nn.Module]) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inward, outward, kernel_size=3, stride=stride, padding=1, bias=False),
        normalized(outward),
        nn.ReLU(),
    )


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
        for tensor in divided(split):
            digest.update(tensor.numpy().tobytes())
    return f"scikit-learn load_digits, 1797 images of 8x8 pixels, sha256 {digest.hexdigest()}"


def shuffled_passes(seed: int, split: str, size: int, images: Callable[[str], Pair] | None = None) -> Stream:
    """Return batches (images [N, 1, 8, 8], labels int64 [N]): shuffled passes for training, the whole test set once.

    Args:
        seed: of the order.
        split: "train" or "eval".
        size: N in training; a pass drops the incomplete batch at its end.
        images: returns the images and labels of a split, `divided` by default.
    """
    read = divided if images is None else images
    return Finite(partial(_whole, read), 1) if split == "eval" else Stream(partial(_shuffled, read, seed, size))


def _whole(images: Callable[[str], Pair], index: int) -> Batch:
    return images("eval")


def _shuffled(images: Callable[[str], Pair], seed: int, size: int, index: int) -> Batch:
    """Return batch `index` of an endless row of passes."""
    pixels, labels = images("train")
    epoch, position = divmod(index, len(labels) // size)
    order = generator(seed, "train", epoch).permutation(len(labels))
    chosen = torch.from_numpy(order[position * size : (position + 1) * size])
    return pixels[chosen], labels[chosen]


@cache
def divided(split: str) -> Pair:
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
