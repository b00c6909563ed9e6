"""Random numbers of a gradient, with a memory, converge like all of them, only later."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._quadratics import descents
from sooner.claims._regimes import quadratics_regime
from sooner.claims._shape import DENSE_AVERAGES

KEPT, UNBIASED = "random_k(ratio=0.05) + ef", "random_k(ratio=0.05, unbiased=True)"
ARMS = ["dense", KEPT, UNBIASED]

CLAIM = Claim(
    part="random_k",
    paper="",
    headline="Sparsified SGD with memory converges at the rate of SGD, up to a term that vanishes faster.",
    source="Stich, Cordonnier and Jaggi, 2018, arXiv 1809.07599, theorem 2.4",
    experiment=(
        "Noisy quadratic losses in 200 dimensions, float64, of eight workers with the same data: excess loss after "
        "1,500 and 4,500 rounds when 5 % of the numbers at random places are sent, with a memory, and scaled up "
        "without one."
    ),
    baseline=DENSE_AVERAGES,
    experiments={
        name: descents(ARMS, rounds, noise=0.3, different=False) for name, rounds in (("short", 1500), ("long", 4500))
    },
    criteria=[
        Criterion(
            "after 4,500 rounds at most 1.2x above dense averaging",
            lambda f: f.paired_ratio("long", "excess", {"arm": KEPT}, {"arm": "dense"}),
            at_most=1.2,
            paper="1x",
        ),
        Criterion(
            "the memory beats scaling up: at most 0.5x of its excess loss",
            lambda f: f.paired_ratio("long", "excess", {"arm": KEPT}, {"arm": UNBIASED}),
            at_most=0.5,
            gain=True,
            control=True,
            positive=True,
        ),
    ],
    trend={
        f"{name}, over dense": lambda f, name=name: f.paired_ratio(  # type: ignore[misc]
            name, "excess", {"arm": KEPT}, {"arm": "dense"}
        )
        for name in ("short", "long")
    },
    regime=quadratics_regime(
        "logistic regression on sparse data, many passes",
        "noise in all gradients, and so many rounds that the term of (d / k)^2 over rounds squared has vanished",
    ),
    minutes=8,
    limits="Convex, and small.",
)
