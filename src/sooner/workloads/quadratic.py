"""A bowl in 100 dimensions with power-law curvatures is descended along noisy gradients.

It shows what noise does to learning rates, schedules, momentum and averaging in a case where the answer can be
computed: a constant rate ends on a floor of noise, decay goes below it, and momentum gains nothing once noise rules.
With x = theta - optimum, a batch is one draw of the noise n in

    loss = 1/2 x^T H x + n^T x,   H = Q diag(1, 1/2, .., 1/100) Q^T,   E[n n^T] = NOISE * H

The noise has the shape of the curvature, as near the optimum of a maximum-likelihood problem; the model and the use it
is put to follow Zhang et al. (2019: Which Algorithmic Choices Matter at Which Batch Sizes?, arXiv 1907.04164).
"""

import hashlib
from functools import cache, partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sooner.workloads._seeded import Batch, Finite, Stream, generator, seeded

steps = 300
evaluations = 50

DIMENSIONS = 100
NOISE = 0.1
CONSTANT = 100  # seeds the rotation and the optimum, which belong to the task and not to a run


class Bowl(nn.Module):
    """The bowl as buffers, and the point theta [DIMENSIONS], a standard normal draw away from the optimum."""

    optimum: Tensor
    rotation: Tensor
    curvatures: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, array in (("optimum", _bowl()[0]), ("rotation", _bowl()[1]), ("curvatures", _curvatures())):
            self.register_buffer(name, torch.from_numpy(array).float(), persistent=False)
        self.point = nn.Parameter(self.optimum + torch.randn(DIMENSIONS))

    def forward(self, noise: Tensor) -> Tensor:
        """Return the loss (0-d) for one draw of the noise [DIMENSIONS], given along the eigenvectors of H."""
        # without the rotation each parameter would be an eigenvector, a gift to methods that scale each one by itself
        along = (self.point - self.optimum) @ self.rotation
        return torch.dot(along, self.curvatures * along / 2 + noise)


def model(seed: int) -> nn.Module:
    """Return the starting point drawn from `seed`."""
    with seeded(seed):
        return Bowl()


def batches(seed: int, split: str) -> Stream:
    """Return batches of one noise vector (float32 [DIMENSIONS]) each; the evaluation batch is without noise."""
    return Finite(_silence, 1) if split == "eval" else Stream(partial(_noise, seed))


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the loss; on the evaluation batch it is the exact height above the optimum, where it is 0."""
    value: Tensor = model(batch[0])
    return value


def expected_loss(learning_rate: float, steps: int, batches: int = 1) -> float:
    """Return the expected evaluation loss after `steps` of plain SGD at a constant learning rate, by exact recursion.

    Along each eigenvector, with curvature h, the mean square distance m starts at 1 and follows
    m <- (1 - learning_rate h)^2 m + learning_rate^2 NOISE h / batches.

    Args:
        learning_rate: of every step.
        steps: how many.
        batches: whose gradients a step averages, as `sooner.train` does with ``accumulate``.
    """
    return float((_curvatures() * _mean_squares(learning_rate, steps, batches)).sum() / 2)


def noise_scale(learning_rate: float, steps: int, batches: int = 1) -> float:
    """Return how many batches have to be averaged until the noise is as large as the gradient, after `steps` of SGD.

    It is tr(S) / |G|^2 with the covariance S of a batch's gradient and the mean of the squared true gradient, the
    simple noise scale of McCandlish et al. (2018, arXiv 1812.06162, eq. 2.9). Batches well below it halve the steps
    when doubled, batches well above it hardly change them.

    Args:
        learning_rate: of every step.
        steps: after how many.
        batches: whose gradients a step averages.
    """
    curvatures = _curvatures()
    signal = (curvatures**2 * _mean_squares(learning_rate, steps, batches)).sum()
    return float(NOISE * curvatures.sum() / signal)


def _mean_squares(learning_rate: float, steps: int, batches: int) -> npt.NDArray[np.float64]:
    """Return the expected square of the distance along each eigenvector."""
    curvatures = _curvatures()
    square = np.ones(DIMENSIONS)
    for _ in range(steps):
        square = (1 - learning_rate * curvatures) ** 2 * square + learning_rate**2 * NOISE * curvatures / batches
    return square


def fingerprint() -> str:
    """Return the shape of the task and the hash of its rotation and optimum."""
    # rounded: the last bits of the rotation depend on the linear algebra library
    digest = hashlib.sha256(b"".join((np.round(array, 6) + 0.0).tobytes() for array in _bowl())).hexdigest()
    return f"{DIMENSIONS} dimensions, curvatures 1/i, noise variance {NOISE} times the curvature, sha256 {digest}"


def _noise(seed: int, index: int) -> Batch:
    draw = generator(seed, "train", index).standard_normal(DIMENSIONS)
    return (torch.from_numpy(draw * np.sqrt(NOISE * _curvatures())).float(),)


def _silence(index: int) -> Batch:
    return (torch.zeros(DIMENSIONS),)


@cache
def _curvatures() -> npt.NDArray[np.float64]:
    return 1 / np.arange(1, DIMENSIONS + 1)


@cache
def _bowl() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return (optimum [D], rotation [D, D] with the eigenvectors of H as columns)."""
    constant = np.random.default_rng(CONSTANT)
    optimum = constant.standard_normal(DIMENSIONS)
    rotation, triangle = np.linalg.qr(constant.standard_normal((DIMENSIONS, DIMENSIONS)))
    return optimum, rotation * np.sign(np.diag(triangle))  # the signs make the factorization unique
