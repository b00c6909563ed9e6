"""Logistic regression on two classes that a plane separates: 2,000 points, about one in twenty of the rarer class.

It shows why a race needs the right target: with large steps the loss rises again and again while the error falls
sooner than with small ones, so who stops at a loss picks the wrong method. The setting is that of Tyurin (2024: From
Logistic Regression to the Perceptron Algorithm, arXiv 2412.08424), with points in general position instead of the
paper's two-point worst case, whose error is 1/n or 0 and nothing between.
"""

import hashlib
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sooner.workloads._seeded import Batch, Finite, Stream, seeded

steps = 300
metric = "error"
evaluations = 60  # cheap here, and the error of a good method falls within a few steps

POINTS = 2000
FEATURES = 41  # the last one is constant
SCALE = 32.0  # standard deviation of the first feature: a learning rate of 1 is then far beyond 2 / smoothness
RARE_SHARE = 0.05
MARGIN = 0.01  # in standard deviations of the distance from the plane
CONSTANT = 2000  # seeds the points, which belong to the task and not to a run


class Plane(nn.Module):
    """Points [N, FEATURES] -> logits of the rarer class [N]."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(FEATURES, 1, bias=False)
        nn.init.normal_(self.head.weight, std=0.5 / SCALE)

    def forward(self, points: Tensor) -> Tensor:
        """Return one logit for each point."""
        logits: Tensor = self.head(points).squeeze(1)
        return logits


def model(seed: int) -> nn.Module:
    """Return a plane in a direction drawn from `seed`."""
    with seeded(seed):
        return Plane()


def batches(seed: int, split: str) -> Stream:
    """Return all points (points [N, FEATURES], labels 0.0 or 1.0 [N]) at every index, for training and evaluation."""
    return Finite(_all_points, 1) if split == "eval" else Stream(_all_points)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean logistic loss in nats."""
    points, labels = batch
    return F.binary_cross_entropy_with_logits(model(points), labels)


def metrics(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Return the share of points on the wrong side of the plane."""
    points, labels = batch
    return {"error": ((model(points) > 0) != (labels > 0)).float().mean()}


def fingerprint() -> str:
    """Return the shape of the data and the hash of points and labels."""
    digest = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in _points())).hexdigest()
    return f"{POINTS} points with {FEATURES} features, {int(_points()[1].sum())} of the rarer class, sha256 {digest}"


def _all_points(index: int) -> Batch:
    return _points()


@cache
def _points() -> tuple[Tensor, Tensor]:
    """Draw points with features of standard deviation 1, 1/2, 1/3 .. and keep those clear of a random plane."""
    constant = np.random.default_rng(CONSTANT)
    deviations = 1 / np.arange(1, FEATURES)
    normal = constant.standard_normal(FEATURES - 1)
    normal /= np.linalg.norm(normal * deviations)
    points = constant.standard_normal((2 * POINTS, FEATURES - 1)) * deviations
    distances = points @ normal  # standard normal
    distances -= np.quantile(distances, 1 - RARE_SHARE)
    clear = np.flatnonzero(np.abs(distances) > MARGIN)[:POINTS]
    features = SCALE * np.concatenate([points[clear], np.ones((POINTS, 1))], axis=1)
    return torch.from_numpy(features).float(), torch.from_numpy(distances[clear] > 0).float()
