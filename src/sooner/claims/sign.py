"""One bit per number is enough, if a memory keeps the rest."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._quadratics import descents
from sooner.claims._regimes import quadratics_regime
from sooner.claims._shape import DENSE_AVERAGES

ARMS = ["dense", "sign", "sign + ef"]

CLAIM = Claim(
    part="sign",
    paper="",
    headline="EF-signSGD has the convergence of SGD at 1/32 of its bytes; signSGD alone need not converge.",
    source="Karimireddy et al., 2019, arXiv 1901.09847, abstract; Bernstein et al., 2018, arXiv 1802.04434",
    experiment=(
        "Noisy quadratic losses in 200 dimensions of eight workers, with the same data and with different data: excess "
        "loss after 1,500 rounds of dense averaging, of signs, and of signs with error feedback; payload bytes."
    ),
    baseline=DENSE_AVERAGES,
    experiments={
        name: descents(ARMS, noise=0.3, different=different)
        for name, different in (("same data", False), ("different data", True))
    },
    criteria=[
        Criterion(
            "same data: with error feedback at most 1.2x above dense averaging",
            lambda f: f.paired_ratio("same data", "excess", {"arm": "sign + ef"}, {"arm": "dense"}),
            at_most=1.2,
            paper="1x",
        ),
        Criterion(
            "different data: at most 1.2x too",
            lambda f: f.paired_ratio("different data", "excess", {"arm": "sign + ef"}, {"arm": "dense"}),
            at_most=1.2,
            paper="1x",
        ),
        Criterion(
            "signs alone end at least 1.5x higher than with the memory",
            lambda f: f.paired_ratio("different data", "excess", {"arm": "sign"}, {"arm": "sign + ef"}),
            at_least=1.5,
            gain=True,
        ),
        Criterion(
            "payload at most 1/50 of the float64 bytes (1/32 of float32 is a 1/64 of these, and a scale)",
            lambda f: f.paired_ratio("same data", "bytes", {"arm": "sign + ef"}, {"arm": "dense"}),
            at_most=0.02,
            paper="0.031x of float32",
        ),
        Criterion(
            "what signs lose shows here: without the memory they end at least 1.5x as high as dense averaging",
            lambda f: f.paired_ratio("same data", "excess", {"arm": "sign"}, {"arm": "dense"}),
            at_least=1.5,
            gain=True,
            positive=True,
            covers=("different data",),
        ),
    ],
    regime=quadratics_regime(
        "residual networks on CIFAR, one and many workers, rates cut late",
        "noise in all gradients, equal and unequal workers",
    ),
    minutes=2,
    limits="Convex, and small; there is no vote: all workers' signs are gathered.",
)
