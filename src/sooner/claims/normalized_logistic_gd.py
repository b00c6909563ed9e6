"""Normalized logistic gradient descent separates in a number of steps that does not grow with the data."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sooner.claims._claim import Claim, Criterion, Measured, Measurement, Regime
from sooner.claims._findings import Findings
from sooner.update.normalized_logistic_gd import NormalizedLogisticGD

PAPER = {1000: {"plain": [308], "normalized": [157, 16, 2, 2]}, 5000: {"plain": [1540], "normalized": [189, 19, 2, 2]}}
"""Steps to separate the paper's worst case, by number of points: plain with step 100, normalized with 0.1 to 100."""

PLAIN_RATES = [0.1 * 10 ** (i / 2) for i in range(9)]
LONGEST = 20_000


def separate(points: Tensor, labels: Tensor, arm: str, lr: float) -> int | None:
    """Return the steps of full gradient descent from 0 until every label in {-1, 1} has the sign of its logit."""
    theta = nn.Parameter(torch.zeros(points.shape[1], dtype=torch.float64))

    def loss() -> Tensor:
        return F.binary_cross_entropy_with_logits(points @ theta, (labels + 1) / 2)

    optimizer = NormalizedLogisticGD([theta], lr=lr) if arm == "normalized" else torch.optim.SGD([theta], lr=lr)
    for step in range(LONGEST):
        if bool((labels * (points @ theta.detach()) > 0).all()):
            return step
        optimizer.zero_grad()
        torch.autograd.backward(loss())
        if isinstance(optimizer, NormalizedLogisticGD):
            optimizer.step(loss)
        else:
            optimizer.step()
    return None


def worst_case(points: int, arm: str, lr: float) -> dict[str, Any]:
    """Separate one point (0.5, -1) of one class from all others at (-0.5, -1)."""
    labels = torch.full((points,), -1.0, dtype=torch.float64)
    labels[0] = 1.0
    x = torch.stack([0.5 * labels, torch.full_like(labels, -1.0)], dim=1)
    return {"steps": separate(x, labels, arm, lr)}


def rare_digit(seed: int) -> dict[str, Any]:
    """Tell a rare five from many threes (5 in 100), by normalized steps of 10 and by the best plain rate of nine."""
    from sklearn.datasets import load_digits

    images, digits = load_digits(return_X_y=True)
    generator = np.random.default_rng(seed)
    threes, fives = (generator.permutation(np.flatnonzero(digits == digit)) for digit in (3, 5))
    chosen = np.concatenate([threes[:171], fives[:9]])
    x = torch.from_numpy(np.c_[images[chosen] / 16, np.ones(len(chosen))])
    labels = torch.from_numpy(np.where(digits[chosen] == 5, 1.0, -1.0))
    plain = [separate(x, labels, "plain", lr) for lr in PLAIN_RATES]
    return {"normalized": separate(x, labels, "normalized", 10.0), "plain": min(s for s in plain if s is not None)}


def agreement(findings: Findings) -> Measured:
    """Return the share of the paper's counts that come out exactly."""
    same = []
    for points, counts in PAPER.items():
        for arm, expected in counts.items():
            found = findings.values("worst case", "steps", points=points, arm=arm)
            same += [a == b for a, b in zip(found, expected, strict=True)]
    return Measured(sum(same) / len(same))


WORST = [
    {"points": points, "arm": arm, "lr": lr}
    for points in PAPER
    for arm, rates in (("plain", [100.0]), ("normalized", [0.1, 1.0, 10.0, 100.0]))
    for lr in rates
]

CLAIM = Claim(
    part="normalized_logistic_gd",
    paper="normalized-lr-gd",
    headline="308 steps of plain descent against 157, 16, 2 and 2 normalized ones (1000 points, steps 0.1 to 100).",
    source="Tyurin, 2024, arXiv 2412.08424, section 6",
    experiment=(
        "The paper's worst case is run with 1000 and with 5000 points, exactly. Then a rare handwritten digit is told "
        "from a common one by full gradient descent: steps until no training image is wrong, on ten draws."
    ),
    baseline="Plain gradient descent; on digits with the best of nine learning rates for each draw, which flatters it.",
    experiments={
        "worst case": Measurement(worst_case, WORST, WORST),
        "rare digit": Measurement(rare_digit, [{"seed": seed} for seed in range(10)], [{"seed": 0}]),
    },
    criteria=[
        Criterion(
            "the ten counts of the worst case come out exactly",
            agreement,
            at_least=1.0,
            paper="308, 157, 16, 2, 2; 1540, 189, 19, 2, 2",
        ),
        Criterion(
            "on a rare digit at most 0.8x of the steps of plain descent",
            lambda f: f.columns_ratio("rare digit", "normalized", "plain"),
            at_most=0.8,
            gain=True,
        ),
    ],
    regime=Regime(
        "separable data, full gradients in double precision",
        "gradient descent",
        "constant",
        "none",
        "the paper's own problem, and an unequal one on digits",
        start="zero",
    ),
    minutes=1,
    limits="Linear models on separable data; on classes of equal size plain descent with large steps is as good.",
    extra="sklearn",
)
