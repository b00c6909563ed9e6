"""EF21 converges to the optimum of workers with different data, where error feedback stalls."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._quadratics import descents
from sooner.claims._regimes import quadratics_regime

EF, EF21 = "top_k(ratio=0.02) + ef", "top_k(ratio=0.02) + ef21"

CLAIM = Claim(
    part="ef21",
    paper="",
    headline="EF21 converges linearly to the optimum with any contractive codec, without assumptions on the data.",
    source="Richtarik, Sokolov and Fatkhullin, 2021, arXiv 2106.05203, abstract and theorem 2",
    experiment=(
        "Quadratic losses in 200 dimensions, float64, of eight workers with different data; top-2 % compression, 1,500 "
        "rounds: excess loss over that at the start, with exact gradients and with noisy ones."
    ),
    baseline="Error feedback behind the same codec; all learning rates tuned alike on a seed of its own.",
    experiments={
        "exact": descents([EF, EF21]),
        "noisy": descents([EF, EF21], noise=0.3),
    },
    criteria=[
        Criterion(
            "excess loss of EF21 at most 1e-12 in every run with exact gradients",
            lambda f: f.largest("exact", "excess", arm=EF21),
            at_most=1e-12,
            paper="0",
        ),
        Criterion(
            "error feedback stalls above 1e-4 in every one of them",
            lambda f: f.smallest("exact", "excess", arm=EF),
            at_least=1e-4,
        ),
        Criterion(
            "methods differ here: with noise EF21 ends at least 1.5x as high as error feedback",
            lambda f: f.paired_ratio("noisy", "excess", {"arm": EF21}, {"arm": EF}),
            at_least=1.5,
            gain=True,
            positive=True,
            covers=("exact",),
        ),
    ],
    trend={
        "EF21 over error feedback, noisy gradients": lambda f: f.paired_ratio(
            "noisy", "excess", {"arm": EF21}, {"arm": EF}
        )
    },
    regime=quadratics_regime(
        "logistic regression with unequal workers, exact gradients",
        "unequal workers and exact gradients, as there",
        noise="none, and 0.3 in every number of a gradient",
    ),
    minutes=1,
    limits="With noisy gradients it ends far above error feedback: that needs ef21_momentum.",
)
