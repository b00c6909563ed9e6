"""Digits under noise: the images of `digits` with noise of 0.35 added, read by small networks.

Without noise a small network reads nearly all test images, and two methods can't be told apart. Every test image is
measured with four draws of noise, the same for all.
"""

import torch
from torch import Tensor, nn

from sooner.workloads._seeded import Batch, Finite, Stream, generator, seeded
from sooner.workloads.digits import batches as images_of
from sooner.workloads.digits import fingerprint, loss, metrics

__all__ = [
    "batches",
    "evaluations",
    "fingerprint",
    "loss",
    "metric",
    "metrics",
    "model",
    "normalised",
    "plain",
    "steps",
]

steps = 300
metric = "error"
evaluations = 6

NOISE = 0.35
DRAWS = 4


class Network(nn.Module):
    """Images [N, 1, 8, 8] -> logits [N, 10]: three convolutions, with batch normalization or without, two layers."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        widths = [(1, 16), (16, 32), (32, 32)]
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(widths):
            layers.append(nn.Conv2d(before, after, 3, padding=1, stride=2 if number == 1 else 1))
            layers += [nn.BatchNorm2d(after)] if norm else []
            layers.append(nn.ReLU())
        self.body = nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 64), nn.ReLU())
        self.head = nn.Linear(64, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the ten classes."""
        logits: Tensor = self.head(self.body(images))
        return logits


def plain(seed: int) -> nn.Module:
    """Return the network without normalization, its weights drawn from `seed`."""
    with seeded(seed):
        return Network(norm=False)


def normalised(seed: int) -> nn.Module:
    """Return the network with batch normalization, its weights drawn from `seed`."""
    with seeded(seed):
        return Network(norm=True)


model = plain


def batches(seed: int, split: str) -> Stream:
    """Return batches (images [N, 1, 8, 8], labels int64 [N]); training images get new noise every time."""
    clean = images_of(seed, split)

    def noisy(index: int) -> Batch:
        images, labels = clean[0 if split == "eval" else index]
        draw = torch.from_numpy(generator(seed, split, index).standard_normal(images.shape)).float()
        return images + NOISE * draw, labels

    return Finite(noisy, DRAWS) if split == "eval" else Stream(noisy)
