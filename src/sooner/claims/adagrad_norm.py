"""AdaGrad-Norm works over a wider range of learning rates than plain SGD."""

from typing import Any

from sooner import loop, workloads
from sooner.claims._claim import Claim, Criterion, Measurement
from sooner.claims._regimes import images_regime

RATES = [10 ** (i / 2) for i in range(-6, 7)]
RECIPES = {"sgd": "sgd(lr={}, momentum=0.0)", "adagrad_norm": "adagrad_norm(lr={})"}
STEPS = 100
GOOD = 0.5
"""Test loss in nats that a run must reach to count as trained (2.3 is guessing)."""


def sweep(arm: str, seed: int, steps: int) -> dict[str, Any]:
    """Train on digits with every rate; return how many of the rates train, and the lowest test loss of all."""
    task = workloads.find("digits")
    finals = []
    for lr in RATES:
        run = loop.train(task, RECIPES[arm].format(lr), seed, steps, evaluate_at=[steps])
        finals.append(run.values[-1] if run.diverged_at is None else float("inf"))
    return {"rates": sum(value <= GOOD for value in finals), "best": min(finals), "finals": finals}


CASES = [{"arm": arm, "seed": seed, "steps": STEPS} for seed in range(6) for arm in RECIPES]

CLAIM = Claim(
    part="adagrad_norm",
    paper="adadagrad",
    headline="Robust to the learning rate: converges for every choice, where SGD is tuned to smoothness and noise.",
    source="Ward et al., 2018, arXiv 1806.01811, abstract and section 4",
    experiment=(
        "A convolutional network learns digits for 100 steps with thirteen learning rates over six decades: how many "
        "of the rates end below 0.5 nats, and the lowest loss of all."
    ),
    baseline="Plain SGD without momentum on the same thirteen rates, from the same weights with the same batches.",
    experiments={"rates": Measurement(sweep, CASES, [{"arm": arm, "seed": 0, "steps": 2} for arm in RECIPES])},
    criteria=[
        Criterion(
            "at least 1.5x as many learning rates train as with SGD",
            lambda f: f.paired_ratio("rates", "rates", {"arm": "adagrad_norm"}, {"arm": "sgd"}),
            at_least=1.5,
            gain=True,
        ),
        Criterion(
            "and the best of them ends at most 1.2x as high as SGD's best",
            lambda f: f.paired_ratio("rates", "best", {"arm": "adagrad_norm"}, {"arm": "sgd"}),
            at_most=1.2,
        ),
        Criterion(
            "rates matter here: SGD trains with at most 11 of the 13",
            lambda f: f.mean("rates", "rates", arm="sgd"),
            at_most=11,
            positive=True,
        ),
    ],
    regime=images_regime(
        "linear regression, LeNet on MNIST and residual networks on ImageNet, rates over many decades",
        "many decades of rates from random weights, as there; one network, 100 steps",
        optimizer="plain SGD",
    ),
    minutes=2,
    limits="The paper's own sweeps are on ResNet-18 and ResNet-50. Only one initial scale (b0 = 0.1) is tried.",
    extra="sklearn",
)
