"""Momentum before EF21 makes it hold under noisy gradients."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._quadratics import descents
from sooner.claims._regimes import quadratics_regime

EF, EF21, MOMENTUM = "top_k(ratio=0.02) + ef", "top_k(ratio=0.02) + ef21", "top_k(ratio=0.02) + ef21_momentum"
ARMS = [EF, EF21, MOMENTUM]

CLAIM = Claim(
    part="ef21_momentum",
    paper="",
    headline="A momentum on every worker provably improves error feedback: EF21-SGDM needs no large batches.",
    source="Fatkhullin, Tyurin and Richtarik, 2023, arXiv 2305.15155, abstract",
    experiment=(
        "Quadratic losses in 200 dimensions, float64, of eight workers with different data and noise of 0.3 in every "
        "number of every gradient; top-2 % compression, 1,500 rounds; and the same with exact gradients."
    ),
    baseline="EF21 behind the same codec; all learning rates tuned alike on a seed of its own.",
    experiments={
        "noisy": descents(ARMS, noise=0.3),
        "exact": descents([MOMENTUM]),
    },
    criteria=[
        Criterion(
            "with noise it ends at most 0.1x above the optimum of where EF21 does",
            lambda f: f.paired_ratio("noisy", "excess", {"arm": MOMENTUM}, {"arm": EF21}),
            at_most=0.1,
            gain=True,
        ),
        Criterion(
            "and not above error feedback: at most 1.1x",
            lambda f: f.paired_ratio("noisy", "excess", {"arm": MOMENTUM}, {"arm": EF}),
            at_most=1.1,
        ),
        Criterion(
            "with exact gradients excess loss at most 1e-12 in every run",
            lambda f: f.largest("exact", "excess", arm=MOMENTUM),
            at_most=1e-12,
        ),
        Criterion(
            "noise matters here: EF21 ends at least 2x as high as error feedback",
            lambda f: f.paired_ratio("noisy", "excess", {"arm": EF21}, {"arm": EF}),
            at_least=2.0,
            gain=True,
            positive=True,
            covers=("exact",),
        ),
    ],
    regime=quadratics_regime(
        "logistic regression and networks with stochastic gradients of small batches",
        "unequal workers and noise in all gradients, as there",
    ),
    minutes=2,
    limits="Convex, and small; the momentum is the default, not tuned.",
)
