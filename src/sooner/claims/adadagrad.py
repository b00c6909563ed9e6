"""Batches that grow with the gradient's noise save steps at little cost in samples."""

from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sooner.claims._claim import Claim, Criterion, Measurement
from sooner.claims._regimes import images_regime
from sooner.schedule.adadagrad import AdAdaGrad, per_sample_gradients

FIXED = (8, 64, 512)
RATES = [10 ** (i / 4) for i in range(-8, 3)]
SAMPLES = 60_000
LARGEST = 512
TUNED = 50_000
"""The seed that chooses learning rates; the reported seeds are others."""


def train(arm: str, lr: float, seed: int, samples: int) -> dict[str, Any]:
    """Run softmax regression on digits with AdaGrad; return steps and samples until the test error is 5 %."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = torch.from_numpy(images / 16).float(), torch.from_numpy(labels)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(1797))
    test, kept = order[:450], order[450:]
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = nn.Linear(64, 10)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=lr)
    adaptive = arm == "adaptive"
    controller = AdAdaGrad(batch_size=8 if adaptive else int(arm), b_max=LARGEST, eta=0.25)
    reached: tuple[int | None, int | None] = (None, None)
    steps = used = 0
    while used < samples:
        chosen = kept[torch.randint(0, len(kept), (controller.batch_size,), generator=generator)]
        if adaptive and controller.due:
            controller.observe(per_sample_gradients(model, F.cross_entropy, x[chosen], y[chosen]))
        optimizer.zero_grad()
        loss: Tensor = F.cross_entropy(model(x[chosen]), y[chosen])
        torch.autograd.backward(loss)
        optimizer.step()
        steps, used = steps + 1, used + len(chosen)
        if adaptive:
            controller.step()
        if reached[0] is None and _error(model, x[test], y[test]) <= 0.05:
            reached = (steps, used)
    return {"steps": reached[0], "samples": reached[1], "error": _error(model, x[test], y[test])}


@torch.no_grad()
def _error(model: nn.Module, x: Tensor, y: Tensor) -> float:
    return float((model(x).argmax(1) != y).float().mean())


@cache
def best_rate(arm: str, samples: int) -> float:
    """Return the one of the eleven learning rates that needs the fewest samples to the target on the tuning seed."""
    tried = [train(arm, lr, TUNED, samples)["samples"] for lr in RATES]
    return RATES[int(np.argmin([np.inf if s is None else s for s in tried]))]


def tuned(arm: str, seed: int, samples: int) -> dict[str, Any]:
    """Train with the best learning rate."""
    chosen = best_rate(arm, samples)
    return {**train(arm, chosen, seed, samples), "rate": chosen}


ARMS = ("adaptive", *map(str, FIXED))
CASES = [{"arm": arm, "seed": seed, "samples": SAMPLES} for seed in range(6) for arm in ARMS]

CLAIM = Claim(
    part="adadagrad",
    paper="adadagrad",
    headline="Adaptive batches end as well as small ones and train nearly as fast as large ones.",
    source="Lau et al., 2024, arXiv 2402.11215, abstract and section 5",
    experiment=(
        "Softmax regression on digits with AdaGrad and batches of 8, 64 and 512, and with batches that grow from 8 by "
        "the norm test: steps and samples until the test error is 5 %."
    ),
    baseline="Fixed batches, each with its own learning rate out of eleven.",
    experiments={
        "batches": Measurement(tuned, CASES, [{"arm": arm, "seed": 0, "samples": 600} for arm in ("adaptive", "64")])
    },
    criteria=[
        Criterion(
            "at most 0.5x of the steps with batches of 8",
            lambda f: f.paired_ratio("batches", "steps", {"arm": "adaptive"}, {"arm": "8"}),
            at_most=0.5,
            gain=True,
        ),
        Criterion(
            "at most 1.2x of their samples",
            lambda f: f.paired_ratio("batches", "samples", {"arm": "adaptive"}, {"arm": "8"}),
            at_most=1.2,
        ),
        Criterion(
            "fewer samples than batches of 512",
            lambda f: f.paired_ratio("batches", "samples", {"arm": "adaptive"}, {"arm": "512"}),
            at_most=1.0,
            gain=True,
            control=True,
        ),
        Criterion(
            "large batches save steps here: batches of 512 take at most 0.5x of the steps of batches of 8",
            lambda f: f.paired_ratio("batches", "steps", {"arm": "512"}, {"arm": "8"}),
            at_most=0.5,
            gain=True,
            positive=True,
        ),
    ],
    trend={
        "samples, 64 against 8": lambda f: f.paired_ratio("batches", "samples", {"arm": "64"}, {"arm": "8"}),
        "steps, 64 against 8": lambda f: f.paired_ratio("batches", "steps", {"arm": "64"}, {"arm": "8"}),
    },
    regime=images_regime(
        "VGG-like networks on MNIST and CIFAR, batches growing over 2,000,000 samples",
        "convex, as in the paper's first experiments, and noisy at a batch of 8",
        optimizer="AdaGrad",
    ),
    minutes=3,
    limits="A convex problem; per-sample gradients, which the test needs, are counted neither as samples nor as steps.",
    extra="sklearn",
)
