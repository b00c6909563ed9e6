"""A flow-matching network learns to turn noise into the handwritten digits of `digits`, with the best answer known.

The law to learn is the density of the 1,347 training images with a little noise on each, so that data never end and the
optimal velocity has a closed form: how far a network is from it is measured exactly, without sampling an image. It
shows what diffusion training shows: which times, which loss and which average bring a denoiser sooner to its target.
"""

import math
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sooner.diffusion import flow_loss, training_times
from sooner.workloads import _digits as digits
from sooner.workloads._seeded import Batch, Finite, Stream, generator, seeded

steps = 600
metric = "excess"
evaluations = 20
provides = frozenset({"flow times"})

PIXELS = 64
WIDTH = 256
BLOCKS = 3
FREQUENCIES = 32
BATCH = 128
EVALUATED = 1024
DROPPED = 0.1  # share of the training examples without their label
NO_LABEL = digits.CLASSES
SPREAD = 0.1  # standard deviation of the noise around each image


class Block(nn.Module):
    """Two layers that see the time and the label, added to their input: [N, WIDTH] -> same."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.into = nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return x plus what the two layers make of it."""
        added: Tensor = self.out(F.silu(self.into(self.norm(x) + condition)))
        return x + added


class Network(nn.Module):
    """Pixels [N, 64], times [N] and labels int64 [N] (10 for none) -> velocities [N, 64]."""

    def __init__(self) -> None:
        super().__init__()
        self.pixels = nn.Linear(PIXELS, WIDTH)
        self.time = nn.Sequential(nn.Linear(2 * FREQUENCIES, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.label = nn.Embedding(digits.CLASSES + 1, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, PIXELS)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        rates = torch.logspace(-1, 2, FREQUENCIES)  # from a tenth of a turn over the whole time to a hundred
        self.register_buffer("rates", rates, persistent=False)

    def forward(self, x: Tensor, times: Tensor, labels: Tensor) -> Tensor:
        """Return the velocity at each point."""
        angles = times[:, None] * self.get_buffer("rates")
        condition = self.time(torch.cat([angles.sin(), angles.cos()], dim=1)) + self.label(labels)
        hidden = self.pixels(x)
        for block in self.blocks:
            hidden = block(hidden, condition)
        velocity: Tensor = self.head(self.norm(hidden))
        return velocity


def model(seed: int) -> nn.Module:
    """Return the network with weights drawn from `seed`."""
    with seeded(seed):
        return Network()


def batches(seed: int, split: str) -> Stream:
    """Return batches (x0 [N, 64], labels int64 [N], uniform [N], noise [N, 64]).

    Times are made of the uniform numbers. Those of the evaluation batch are evenly spaced from 0.01 to 0.99.
    """
    if split == "eval":
        return Finite(partial(_batch, seed, split, EVALUATED), 1)
    return Stream(partial(_batch, seed, split, BATCH))


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean squared error of the velocity, at the times that the part around the loss chooses."""
    x0, labels, uniform, noise = batch
    return flow_loss(model, x0, noise, training_times(uniform), labels)


def metrics(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Return the mean squared difference from the optimal velocity, which is 0 for a perfect network."""
    x0, labels, uniform, noise = batch
    t = uniform[:, None]
    x = (1 - t) * x0 + t * noise
    return {"excess": (model(x, uniform, labels) - optimal_velocity(x, uniform, labels)).square().mean()}


def optimal_velocity(x: Tensor, times: Tensor, labels: Tensor) -> Tensor:
    """Return E[noise - x0 | x_t = x, label], in closed form.

    Each image c of the label is the centre of a Gaussian N((1-t) c, s^2) of x_t with s^2 = ((1-t) SPREAD)^2 + t^2. Its
    posterior probability is a softmax, and given the centre everything is linear.

    Args:
        x: ``[N, 64]``.
        times: ``[N]`` in (0, 1].
        labels: int64 ``[N]``, 10 for all images.
    """
    images, classes = (tensor.to(x.device) for tensor in centres())
    t = times[:, None].to(x.dtype)
    left = 1 - t
    variance = (SPREAD * left) ** 2 + t**2
    images = images.to(x.dtype)
    # |x - (1-t) c|^2 without what all centres share
    squares = left**2 * images.square().sum(1) - 2 * left * (x @ images.T)
    scores = -squares / (2 * variance)
    others = (labels[:, None] != classes) & (labels[:, None] != NO_LABEL)
    mean = scores.masked_fill(others, -math.inf).softmax(1) @ images
    rest = (x - left * mean) / variance
    return t * rest - (mean + SPREAD**2 * left * rest)


@cache
def centres() -> tuple[Tensor, Tensor]:
    """Return the training images of `digits`, [1347, 64] between -1 and 1, and their labels."""
    images, labels = digits.divided("train")
    return 2 * (images.flatten(1) + 0.3) - 1, labels


def fingerprint() -> str:
    """Return what the images are, as `digits` says it, and the width of the noise around each."""
    return f"density of the training images, standard deviation {SPREAD}, of {digits.fingerprint()}"


def _batch(seed: int, split: str, rows: int, index: int) -> Batch:
    random = generator(seed, split, index)
    images, labels = centres()
    chosen = torch.from_numpy(random.integers(len(labels), size=rows))
    x0 = images[chosen] + SPREAD * torch.from_numpy(random.standard_normal((rows, PIXELS), dtype="float32"))
    noise = torch.from_numpy(random.standard_normal((rows, PIXELS), dtype="float32"))
    uniform = torch.from_numpy(random.random(rows, dtype="float32"))
    shown = torch.from_numpy(random.random(rows) >= DROPPED)
    if split == "eval":
        uniform = torch.linspace(0.01, 0.99, rows)
    return x0, labels[chosen].where(shown, NO_LABEL), uniform, noise
