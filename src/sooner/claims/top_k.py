"""Dropping 99 of 100 gradients costs little, if what is dropped is not forgotten."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._quadratics import descents
from sooner.claims._regimes import quadratics_regime
from sooner.claims._shape import DENSE_AVERAGES

KEPT, FORGOTTEN = "top_k(ratio=0.01) + ef", "top_k(ratio=0.01)"
ARMS = ["dense", FORGOTTEN, KEPT, "random_k(ratio=0.01) + ef"]

CLAIM = Claim(
    part="top_k",
    paper="",
    headline="Exchanging only the largest 1 % of the gradients, the rest kept for later, costs no accuracy.",
    source="Aji and Heafield, 2017, arXiv 1704.05021, abstract",
    experiment=(
        "Noisy quadratic losses in 200 dimensions, float64, of four workers with the same data: excess loss after "
        "3,000 rounds when the largest 1 % is sent, with and without a memory, and when as many random numbers are."
    ),
    baseline=DENSE_AVERAGES,
    experiments={"noisy": descents(ARMS, 3000, workers=4, noise=0.3, different=False)},
    criteria=[
        Criterion(
            "with error feedback it ends at most 1.2x above dense averaging",
            lambda f: f.paired_ratio("noisy", "excess", {"arm": KEPT}, {"arm": "dense"}),
            at_most=1.2,
            paper="1x",
        ),
        Criterion(
            "payload at most 0.021x of the dense bytes, places included",
            lambda f: f.paired_ratio("noisy", "bytes", {"arm": KEPT}, {"arm": "dense"}),
            at_most=0.021,
            paper="0.01x",
        ),
        Criterion(
            "it is the memory: at most 0.5x of what top-k without it ends at",
            lambda f: f.paired_ratio("noisy", "excess", {"arm": KEPT}, {"arm": FORGOTTEN}),
            at_most=0.5,
            gain=True,
            control=True,
            positive=True,
        ),
        Criterion(
            "it is the choice: at most 0.95x of what as many random numbers end at",
            lambda f: f.paired_ratio("noisy", "excess", {"arm": KEPT}, {"arm": "random_k(ratio=0.01) + ef"}),
            at_most=0.95,
            gain=True,
            control=True,
        ),
    ],
    regime=quadratics_regime(
        "translation and speech networks with momentum, whole schedules",
        "noise in all gradients; convex",
        noise="0.3 in every number of a gradient",
    ),
    minutes=2,
    limits="Convex, and small. What every worker receives grows with the number of workers.",
)
