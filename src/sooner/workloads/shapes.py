"""A residual convolutional network learns ten families of outlines, drawn anew for every batch in 16x16 grey pixels.

It shows vision training where images never run out: nothing is seen twice, so what a method gains is optimization. A
family has many outlines, some of them rare, and images come turned, cut off, faint and in noise, so that the loss goes
on falling with more steps and with larger networks. The network is that of He et al. (2016: Deep Residual Learning for
Image Recognition, arXiv 1512.03385) in small.
"""

import hashlib
import math
from functools import cache, partial

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sooner.workloads._seeded import Batch, Finite, Stream, generator, scaled, seeded

steps = 1000
evaluations = 20

CLASSES = 10
OUTLINES = 12
"""Outlines of a class; the one of rank r, from 1, comes with a probability ~ 1 / r."""
HARMONICS = 5
"""Waves around an outline: two to six of them."""
SIDE = 16
BATCH = 64
EVALUATED = 1024
WRONG = 0.04
"""Share of the training images whose label is that of another class."""
WIDTH = 16
CONSTANT = 1616  # seeds the outlines, which belong to the task and not to a run

Array = npt.NDArray[np.float32]


class Block(nn.Module):
    """Two normalized convolutions added to their input: [N, C, H, W] -> [N, D, H / stride, W / stride]."""

    def __init__(self, inward: int, outward: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inward, outward, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outward)
        self.second = nn.Conv2d(outward, outward, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outward)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inward != outward:
            self.shortcut = nn.Sequential(nn.Conv2d(inward, outward, 1, stride, bias=False), nn.BatchNorm2d(outward))

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of both ways, rectified."""
        added = self.second_norm(self.second(F.relu(self.first_norm(self.first(x)))))
        return F.relu(self.shortcut(x) + added)


class Network(nn.Module):
    """Images [N, 1, 16, 16] -> logits [N, CLASSES]: a stem, three residual blocks, the mean over the image, `head`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.Sequential(
            Block(width, width, 1),  # [N, width, 8, 8]
            Block(width, 2 * width, 2),  # [N, 2 * width, 4, 4]
            Block(2 * width, 2 * width, 1),
        )
        self.head = nn.Linear(2 * width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the classes."""
        logits: Tensor = self.head(self.blocks(self.stem(images)).mean(dim=(2, 3)))
        return logits


def model(seed: int, size: float = 1) -> nn.Module:
    """Return the network with weights drawn from `seed`, of about `size` times the parameters."""
    width = scaled(WIDTH, size)
    with seeded(seed):
        return Network(width)


def batches(seed: int, split: str) -> Stream:
    """Return batches (images [N, 1, 16, 16], labels int64 [N]).

    The labels of the evaluation batch are the probabilities of the classes [N, CLASSES] that wrong labels leave, so
    that its loss is the expected one.
    """
    if split == "eval":
        return Finite(partial(_evaluation, seed), 1)
    return Stream(partial(_training, seed))


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean cross-entropy in nats; wrong labels alone cost `floor()`."""
    images, labels = batch
    return F.cross_entropy(model(images), labels)


def metrics(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Return the share of images that are taken for another class than their own."""
    images, labels = batch
    return {"error": (model(images).argmax(dim=1) != labels.argmax(dim=1)).float().mean()}


def floor() -> float:
    """Return the entropy of a label given the class of the image, in nats: no network's loss is lower."""
    return -(1 - WRONG) * math.log(1 - WRONG) - WRONG * math.log(WRONG / (CLASSES - 1))


def fingerprint() -> str:
    """Return what is drawn and the hash of the outlines."""
    waves, hollows = _outlines()
    # rounded: the last bits depend on the processor
    digest = hashlib.sha256(b"".join((np.round(array, 5) + 0.0).tobytes() for array in (waves, hollows))).hexdigest()
    return (
        f"generated, {SIDE}x{SIDE} pixels, {CLASSES} classes of {OUTLINES} outlines, {WRONG:.0%} of the labels wrong, "
        f"sha256 {digest}"
    )


def _training(seed: int, index: int) -> Batch:
    random = generator(seed, "train", index)
    images, classes = _images(random, BATCH)
    others = (classes + random.integers(1, CLASSES, size=BATCH)) % CLASSES
    return images, torch.from_numpy(np.where(random.random(BATCH) < WRONG, others, classes))


def _evaluation(seed: int, index: int) -> Batch:
    images, classes = _images(generator(seed, "eval", index), EVALUATED)
    labels = torch.full((EVALUATED, CLASSES), WRONG / (CLASSES - 1))
    labels[torch.arange(EVALUATED), torch.from_numpy(classes)] = 1 - WRONG
    return images, labels


def _images(random: np.random.Generator, count: int) -> tuple[Tensor, npt.NDArray[np.int64]]:
    """Draw images [count, 1, SIDE, SIDE], of mean near 0 and deviation near 1, and their classes [count]."""
    classes = random.integers(CLASSES, size=count)
    ranks = np.searchsorted(_cumulative(), random.random(count)).clip(max=OUTLINES - 1)
    known, hollows = (array[classes, ranks] for array in _outlines())
    waves = known + 0.02 * _complex(random, count)  # no two specimens are alike
    turned = random.uniform(-0.4, 0.4, count)  # radians
    across, down = random.uniform(-1.5, 1.5, (2, count, 1)).astype(np.float32)  # the centre, from that of the image
    radius = random.uniform(4, 6.5, (count, 1)).astype(np.float32)
    grid = _grid()
    place = ((grid.real - across) + 1j * (grid.imag - down)).astype(np.complex64)  # [count, pixels]
    distance = np.abs(place)
    place *= np.exp(-1j * turned)[:, None].astype(np.complex64) / (distance + np.float32(1e-6))  # on the unit circle
    reach = np.ones_like(distance)
    power = place
    for wave in range(HARMONICS):
        power = power * place
        reach += (waves[:, wave, None] * power).real
    edge = reach * radius
    sharp = np.float32(2)
    inside = _step(sharp * (edge - distance)) - _step(sharp * (edge * hollows[:, None] - distance))
    # a band of the background's brightness lies over a part of the image
    band = np.exp(1j * random.uniform(0, 2 * np.pi, (count, 1))).astype(np.complex64)
    beyond = (grid * band).real - random.uniform(3, 15, (count, 1)).astype(np.float32)
    inside *= _step(sharp * beyond) < 0.5
    contrast = np.exp(0.4 * random.standard_normal((count, 1), dtype=np.float32))
    slope = random.standard_normal((2, count, 1), dtype=np.float32) / SIDE
    pixels = 2 * contrast * inside - 0.7 + slope[0] * grid.real + slope[1] * grid.imag
    pixels += 0.25 * random.standard_normal(pixels.shape, dtype=np.float32)
    return torch.from_numpy(pixels.reshape(count, 1, SIDE, SIDE)), classes


def _step(x: Array) -> Array:
    """Return the logistic function, a soft edge."""
    return np.asarray(1 / (1 + np.exp(-x.clip(-30, 30))), dtype=np.float32)


def _complex(random: np.random.Generator, *shape: int) -> npt.NDArray[np.complex64]:
    """Draw the waves of outlines, [*shape, HARMONICS], of standard deviation 1."""
    real, imaginary = random.standard_normal((2, *shape, HARMONICS), dtype=np.float32)
    return np.asarray(real + 1j * imaginary, dtype=np.complex64)


@cache
def _grid() -> npt.NDArray[np.complex64]:
    """Return the places of the pixels from the centre of the image, x + iy, [SIDE * SIDE]."""
    along = np.arange(SIDE) - (SIDE - 1) / 2
    return np.asarray(along[None, :] + 1j * along[:, None], dtype=np.complex64).ravel()


@cache
def _cumulative() -> npt.NDArray[np.float64]:
    weights = 1 / np.arange(1, OUTLINES + 1)
    return np.asarray(np.cumsum(weights / weights.sum()))


@cache
def _outlines() -> tuple[npt.NDArray[np.complex64], Array]:
    """Return the waves of each outline [CLASSES, OUTLINES, HARMONICS], and how hollow it is [CLASSES, OUTLINES]."""
    constant = np.random.default_rng(CONSTANT)
    waves = _complex(constant, CLASSES, OUTLINES) * (0.6 / np.arange(2, HARMONICS + 2, dtype=np.float32))
    hollow = constant.uniform(-0.6, 0.7, (CLASSES, OUTLINES)).clip(min=0)  # about half of them are not
    return waves.astype(np.complex64), hollow.astype(np.float32)
