"""The best learning rate grows linearly with the batch for SGD and with its square root for Adam."""

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from sooner.claims._claim import Claim, Criterion, Measured, Measurement, Regime
from sooner.claims._findings import Findings, paired
from sooner.claims.tasks.text_workers import CONTEXT, batches, loss, model
from sooner.workloads.charlm import windows

BATCHES = (4, 8, 16, 32)
"""Far below the batch from which on more examples hardly lower a gradient's noise, so that noise decides."""
STEP = 0.5
"""Between neighbouring rates of a grid, in powers of two."""
GRIDS = {"sgd": [2.0 ** (STEP * i) for i in range(-12, 3)], "adam": [2.0 ** (STEP * i) for i in range(-24, -9)]}
OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
SAMPLES = 24_000
DOUBLINGS = int(math.log2(BATCHES[-1] / BATCHES[0]))
RULES = {"linear": DOUBLINGS, "square root": DOUBLINGS / 2, "none": 0}
"""By how many powers of two each rule moves the rate from the smallest batch to the largest."""


def losses(kind: str, batch: int, seed: int, samples: int, every: int = 1) -> dict[str, Any]:
    """Return held-out losses after a fixed number of samples for every rate of the grid, and the best rate (log2).

    The best rate is that of the parabola through the lowest loss and its neighbours. With `every`, only each such rate
    of the grid is tried.
    """
    grid = GRIDS[kind][::every]
    found = [_final(kind, batch, lr, seed, samples) for lr in grid]
    rates = np.log2(grid)
    return {"losses": found, "rates": rates.tolist(), "rate": _lowest(rates, np.array(found)), "loss": min(found)}


def _final(kind: str, batch: int, lr: float, seed: int, samples: int) -> float:
    network = model(seed)
    optimizer = OPTIMIZERS[kind](network.parameters(), lr=lr)
    draw = partial(windows, CONTEXT, seed, "train", batch)
    for step in range(samples // batch):
        value: Tensor = loss(network, draw(step))
        optimizer.zero_grad()
        torch.autograd.backward(value)
        optimizer.step()
    with torch.no_grad():
        end = float(loss(network, batches(0, "eval")[0]))
    return end if math.isfinite(end) else 1e6


def _lowest(rates: Any, values: Any) -> float:
    """Return where a parabola through the lowest value and its neighbours is lowest; at an end the end itself."""
    at = int(np.argmin(values))
    if at in (0, len(values) - 1):
        return float(rates[at])
    before, here, after = np.log(values[at - 1 : at + 2])
    return float(rates[at] + (rates[1] - rates[0]) * 0.5 * (before - after) / (before - 2 * here + after))


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


def moved(findings: Findings, kind: str, rule: str, over: str = "") -> Measured:
    """Return the loss at the largest batch, with the best rate of the smallest one moved by a rule, over the least.

    Every seed takes the best rate of the next one. With `over`, the ratio is to what that other rule gives.
    """
    largest = findings.values("rates", "losses", kind=kind, batch=BATCHES[-1])
    grids = findings.values("rates", "rates", kind=kind, batch=BATCHES[-1])
    smallest = findings.values("rates", "rate", kind=kind, batch=BATCHES[0])
    ours, theirs = [], []
    for seed, (grid, curve) in enumerate(zip(grids, largest, strict=True)):
        start = smallest[(seed + 1) % len(smallest)]
        ours.append(_at(grid, curve, start + RULES[rule]))
        theirs.append(_at(grid, curve, start + RULES[over]) if over else min(curve))
    return paired(ours, theirs)


def _at(grid: list[float], curve: list[float], rate: float) -> float:
    """Return the loss at a rate (log2) between those of the grid; beyond it, at its end."""
    return float(np.exp(np.interp(rate, grid, np.log(curve))))


CASES: list[dict[str, Any]] = [
    {"kind": kind, "batch": batch, "seed": seed, "samples": SAMPLES}
    for seed in range(4)
    for kind in OPTIMIZERS
    for batch in BATCHES
]
SMALL = [{**case, "samples": 32, "every": 7} for case in CASES if case["seed"] == 0 and case["batch"] != 8]

CLAIM = Claim(
    part="batch_scaling",
    paper="rmt-lr-batch",
    headline="Learning rates scale linearly with the batch for SGD and with its square root for Adam.",
    source="Granziol et al., 2020, arXiv 2006.09092, abstract",
    experiment=(
        "A language model learns from 24,000 windows of text in batches of 4 to 32: the learning rate with the lowest "
        "held-out loss, on a grid with steps of the square root of two. Then the best rate at 4 is moved to 32 by each "
        "rule."
    ),
    baseline="The best learning rate of fifteen at the new batch size; the other rules as controls.",
    experiments={"rates": Measurement(losses, CASES, SMALL)},
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
            "SGD: moved linearly, the held-out loss is at most 1.02x of the best",
            lambda f: moved(f, "sgd", "linear"),
            at_most=1.02,
        ),
        Criterion(
            "Adam: moved by the square root, the held-out loss is at most 1.02x of the best",
            lambda f: moved(f, "adam", "square root"),
            at_most=1.02,
        ),
        Criterion(
            "Adam: and the square root is no worse than the linear rule",
            lambda f: moved(f, "adam", "square root", over="linear"),
            at_most=1.0,
            control=True,
        ),
        Criterion(
            "the rate has to move here: SGD at the small batch's rate ends at least 1.02x as high as the best",
            lambda f: moved(f, "sgd", "none"),
            at_least=1.02,
            gain=True,
            positive=True,
        ),
    ],
    trend={
        "SGD moved by the square root": lambda f: moved(f, "sgd", "square root"),
        "Adam moved linearly": lambda f: moved(f, "adam", "linear"),
        "Adam not moved": lambda f: moved(f, "adam", "none"),
    },
    regime=Regime(
        "VGG and wide residual networks on CIFAR, batches of 32 to 1,024, the largest rate that is stable",
        "SGD without momentum, and Adam",
        "constant",
        "batches of 4 to 32 windows that do not repeat: a gradient is mostly noise",
        "small batches of fresh data, where noise limits the rate, which the theory asks for",
    ),
    minutes=10,
    limits="The rate that ends lowest stands in for the largest stable one, of which the theory speaks.",
)
