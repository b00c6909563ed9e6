"""Error feedback repairs sign compression, and top-k, where they would not converge by themselves."""

from sooner.claims._claim import Claim, Criterion, Measurement
from sooner.claims._quadratics import cases, measure
from sooner.claims._regimes import quadratics_regime

SMALL = cases(["sign", "sign + ef"], seeds=1, rounds=40)

CLAIM = Claim(
    part="ef",
    paper="",
    headline="With error feedback, gradient descent behind a biased codec converges as fast as without compression.",
    source="Karimireddy et al., 2019, arXiv 1901.09847, abstract and theorem II",
    experiment=(
        "Quadratic losses in 200 dimensions, float64. First eight workers with the same data and noisy gradients, "
        "where the theorem holds: excess loss after 1,500 rounds with sign and top-2 % compression, with and without "
        "error feedback, over that of dense averaging. Then eight workers with different data, without noise."
    ),
    baseline="Dense averaging, its learning rate tuned on a seed of its own like that of every arm.",
    experiments={
        "same data": Measurement(
            measure,
            cases(
                ["dense", "sign", "sign + ef", "top_k(ratio=0.02)", "top_k(ratio=0.02) + ef"],
                noise=0.3,
                different=False,
            ),
            SMALL,
        ),
        "different data": Measurement(measure, cases(["top_k(ratio=0.02)", "top_k(ratio=0.02) + ef"]), SMALL),
    },
    criteria=[
        Criterion(
            "sign with error feedback ends at most 1.5x above dense averaging",
            lambda f: f.paired_ratio("same data", "excess", {"arm": "sign + ef"}, {"arm": "dense"}),
            at_most=1.5,
            paper="1x",
        ),
        Criterion(
            "top-2 % with error feedback ends at most 1.5x above dense averaging",
            lambda f: f.paired_ratio("same data", "excess", {"arm": "top_k(ratio=0.02) + ef"}, {"arm": "dense"}),
            at_most=1.5,
            paper="1x",
        ),
        Criterion(
            "it is the memory: at most 0.5x of what top-2 % without it ends at, on different data too",
            lambda f: f.paired_ratio(
                "different data", "excess", {"arm": "top_k(ratio=0.02) + ef"}, {"arm": "top_k(ratio=0.02)"}
            ),
            at_most=0.5,
            gain=True,
            control=True,
        ),
        Criterion(
            "what is dropped matters here: top-2 % without a memory ends at least 1.5x as high as dense averaging",
            lambda f: f.paired_ratio("same data", "excess", {"arm": "top_k(ratio=0.02)"}, {"arm": "dense"}),
            at_least=1.5,
            gain=True,
            positive=True,
            covers=("different data",),
        ),
    ],
    regime=quadratics_regime(
        "convex and smooth losses in theory; networks on CIFAR", "noise in all gradients, where the theorem holds"
    ),
    minutes=2,
    limits="Convex, and small; on different data error feedback stalls (see the claim of ef21).",
)
