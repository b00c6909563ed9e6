"""Averaging models that never talked to each other is good for convex losses, and bad for networks."""

from typing import Any

import torch

from sooner.claims._claim import Claim, Criterion, Measurement
from sooner.claims._clusters import FP16, LOCAL, OUTER, SILENT, SNOO
from sooner.claims._quadratics import Quadratics
from sooner.claims._regimes import quadratics_regime


def convex(seed: int, workers: int, rounds: int) -> dict[str, Any]:
    """Return the excess loss of averaged silent workers over that of averaged gradients, and of one worker alone."""
    problem, generator = Quadratics(seed, workers, 50, different=False), torch.Generator().manual_seed(seed + 1)
    alone = torch.zeros(workers, 50, dtype=torch.float64)
    dense = torch.zeros(50, dtype=torch.float64)
    for _ in range(rounds):
        noise = 0.3 * torch.randn(workers, 50, generator=generator, dtype=torch.float64)
        alone = alone - 0.3 * (problem.gradients(alone) + noise)
        dense = dense - 0.3 * (problem.gradients(dense) + noise).mean(0)
    average = problem.excess(alone.mean(0))
    return {"average": average, "dense": problem.excess(dense), "one": problem.excess(alone[0])}


CLAIM = Claim(
    part="silent",
    paper="",
    headline="For convex losses, the average of workers that never communicate profits from all of them.",
    source="Zinkevich et al., 2010, 'Parallelized stochastic gradient descent', abstract",
    experiment=(
        "Noisy quadratic losses in 50 dimensions of eight workers: excess loss of the average of silent workers after "
        "1,000 steps, of averaged gradients, and of one worker. Then a language model, which is not convex."
    ),
    baseline="Averaged gradients, for the quadratics at the same learning rate; tuned in the race.",
    experiments={
        "convex": Measurement(
            convex,
            [{"seed": s, "workers": 8, "rounds": 1000} for s in range(6)],
            [{"seed": 0, "workers": 2, "rounds": 20}],
        ),
        "race": OUTER,
    },
    criteria=[
        Criterion(
            "quadratics: at most 1.01x of averaged gradients",
            lambda f: f.columns_ratio("convex", "average", "dense"),
            at_most=1.01,
        ),
        Criterion(
            "quadratics: at most 0.25x of one worker of eight",
            lambda f: f.columns_ratio("convex", "average", "one"),
            at_most=0.25,
            gain=True,
        ),
        Criterion(
            "a network: it ends at least 1.2x as high as with averages every 12 steps",
            lambda f: f.final_ratio("race", SILENT, against=LOCAL),
            at_least=1.2,
            gain=True,
            control=True,
        ),
        Criterion(
            "workers are worth something here: one of eight ends at least 2x as high as averaged gradients",
            lambda f: f.columns_ratio("convex", "one", "dense"),
            at_least=2.0,
            gain=True,
            positive=True,
        ),
    ],
    trend={
        "network, final loss over averaged gradients": lambda f: f.final_ratio("race", SILENT),
        "float16, steps": lambda f: f.steps_ratio("race", FP16),
        "outer momentum without local steps": lambda f: f.steps_ratio("race", SNOO),
    },
    regime=quadratics_regime(
        "convex losses, averages of workers at the end, in theory and on ranking data",
        "convex, noisy losses, as there",
        noise="in every gradient",
    ),
    minutes=3,
)
