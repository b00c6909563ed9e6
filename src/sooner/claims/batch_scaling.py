"""The best learning rate grows linearly with the batch for SGD and with its square root for Adam."""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from sooner.claims._claim import Claim, Criterion, Measured, Measurement
from sooner.claims._findings import Findings

BATCHES = (8, 16, 32, 64, 128)
GRIDS = {"sgd": [2.0 ** (i / 2) for i in range(-14, 5)], "adam": [2.0 ** (i / 2) for i in range(-26, -7)]}
SAMPLES = 12_000
OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}


def best_rate(kind: str, batch: int, seed: int, samples: int) -> dict[str, Any]:
    """Return the learning rate with the lowest training loss after a fixed number of samples (log2), and that loss."""
    losses = [_final(kind, batch, lr, seed, samples) for lr in GRIDS[kind]]
    chosen = int(np.argmin(losses))
    return {"rate": math.log2(GRIDS[kind][chosen]), "loss": losses[chosen]}


def transferred(kind: str, seed: int, samples: int) -> dict[str, Any]:
    """Return losses at batch 128 with the best rate of batch 16 moved by each rule, over the best loss there."""
    start = best_rate(kind, 16, seed + 1000, samples)["rate"]
    least = best_rate(kind, 128, seed, samples)["loss"]
    moved = {"linear": 8.0, "square root": 8.0**0.5, "none": 1.0}
    return {rule: _final(kind, 128, 2**start * factor, seed, samples) / least for rule, factor in moved.items()}


def _final(kind: str, batch: int, lr: float, seed: int, samples: int) -> float:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = torch.from_numpy(images / 16).float(), torch.from_numpy(labels)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    optimizer = OPTIMIZERS[kind](model.parameters(), lr=lr)
    for _ in range(samples // batch):
        chosen = torch.randint(0, len(y), (batch,), generator=generator)
        loss: Tensor = F.cross_entropy(model(x[chosen]), y[chosen])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    with torch.no_grad():
        value = float(F.cross_entropy(model(x), y))
    return value if math.isfinite(value) else 1e6


def slope(findings: Findings, kind: str) -> Measured:
    """Return the slope of log learning rate against log batch, with its standard error as a 95 % interval."""
    points = [
        (math.log2(batch), rate)
        for batch in BATCHES
        for rate in findings.values("rates", "rate", kind=kind, batch=batch)
    ]
    if len({batch for batch, _ in points}) < 3:
        return Measured(math.nan, undecided="too few batch sizes were run")
    line = stats.linregress([x for x, _ in points], [y for _, y in points])
    error = 2 * float(line.stderr)
    return Measured(float(line.slope), float(line.slope) - error, float(line.slope) + error)


RATES: list[dict[str, Any]] = [
    {"kind": k, "batch": b, "seed": s, "samples": SAMPLES} for k in OPTIMIZERS for b in BATCHES for s in range(3)
]
SMALL = [{**case, "samples": 256} for case in RATES if case["seed"] == 0 and case["batch"] > 16]
MOVED = [{"kind": k, "seed": s, "samples": SAMPLES} for k in OPTIMIZERS for s in range(6)]

CLAIM = Claim(
    part="batch_scaling",
    paper="rmt-lr-batch",
    headline="Learning rates scale linearly with the batch for SGD and with its square root for Adam.",
    source="Granziol et al., 2020, arXiv 2006.09092, abstract",
    experiment=(
        "A two-layer network learns digits from a fixed number of samples with batches of 8 to 128: the learning rate "
        "that ends lowest, on a grid with steps of the square root of two. Then the best rate at 16 is moved to 128 "
        "by each rule."
    ),
    baseline="The best learning rate of nineteen at the new batch size; the other rules as controls.",
    experiments={
        "rates": Measurement(best_rate, RATES, SMALL),
        "moved": Measurement(transferred, MOVED, [{"kind": "sgd", "seed": 0, "samples": 256}]),
    },
    criteria=[
        Criterion(
            "SGD: the exponent is at least 0.75 and at most 1.2",
            lambda f: slope(f, "sgd"),
            at_least=0.75,
            at_most=1.2,
            paper="1",
        ),
        Criterion(
            "Adam: the exponent is at least 0.35 and at most 0.65",
            lambda f: slope(f, "adam"),
            at_least=0.35,
            at_most=0.65,
            paper="0.5",
        ),
        Criterion(
            "SGD: moved linearly, the loss is at most 1.15x of the best",
            lambda f: f.mean("moved", "linear", "x", kind="sgd"),
            at_most=1.15,
        ),
        Criterion(
            "Adam: moved by the square root, the loss is at most 1.15x of the best",
            lambda f: f.mean("moved", "square root", "x", kind="adam"),
            at_most=1.15,
        ),
        Criterion(
            "Adam: and the square root is no worse than the linear rule",
            lambda f: f.columns_ratio("moved", "square root", "linear", kind="adam"),
            at_most=1.0,
            control=True,
        ),
    ],
    trend={
        "SGD moved by the square root": lambda f: f.mean("moved", "square root", "x", kind="sgd"),
        "SGD not moved": lambda f: f.mean("moved", "none", "x", kind="sgd"),
        "Adam moved linearly": lambda f: f.mean("moved", "linear", "x", kind="adam"),
        "Adam not moved": lambda f: f.mean("moved", "none", "x", kind="adam"),
    },
    minutes=4,
    limits="The rate that ends lowest stands in for the largest stable one, of which the theory speaks.",
    extra="sklearn",
)
