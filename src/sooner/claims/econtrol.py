"""EControl holds where error feedback stalls and EF21 does not stand the noise."""

from collections.abc import Mapping
from typing import Any

from sooner.claims._claim import Claim, Criterion, Measured, Measurement
from sooner.claims._findings import Findings
from sooner.claims._quadratics import cases, measure
from sooner.claims._regimes import quadratics_regime

EF, EF21 = "top_k(ratio=0.05) + ef", "top_k(ratio=0.05) + ef21"
ETAS = ("0.01", "0.03", "0.1", "0.3")
ARMS = [EF, EF21, *(f"top_k(ratio=0.05) + econtrol(eta={eta})" for eta in ETAS)]
SHAPE: Mapping[str, Any] = {"workers": 10, "size": 100}


def _tuned(f: Findings, experiment: str) -> str:
    """Return the arm of EControl that ends lowest on the first seed, which does not count afterwards."""
    return min(ARMS[2:], key=lambda arm: f.values(experiment, "excess", arm=arm, seed=0)[0] or float("inf"))


def _against(f: Findings, experiment: str, other: str) -> Measured:
    """Return EControl's excess loss over another arm's, on the seeds that did not choose eta."""
    arm, kept = _tuned(f, experiment), f.found[experiment]["cases"]
    rest = Findings({experiment: {"cases": [c for c in kept if c["case"]["seed"] > 0] or kept}})
    return rest.paired_ratio(experiment, "excess", {"arm": arm}, {"arm": other})


CLAIM = Claim(
    part="econtrol",
    paper="econtrol",
    headline="EControl converges at optimal-order rates with any contractive codec, whatever data the workers have.",
    source="Gao, Islamov and Stich, 2023, arXiv 2311.05645, abstract",
    experiment=(
        "Quadratic losses in 100 dimensions, float64, of ten workers with different data; top-5 % compression, 1,500 "
        "rounds, with exact gradients and with noise of 0.3 in every number of them. Eta is the best of four on one "
        "seed, learning rates are tuned on another, and the other six seeds count."
    ),
    baseline="The better one of error feedback and EF21 behind the same codec, tuned alike.",
    experiments={
        name: Measurement(
            measure, cases(ARMS, seeds=7, noise=noise, **SHAPE), cases(ARMS, seeds=1, rounds=40, noise=noise, **SHAPE)
        )
        for name, noise in (("exact", 0.0), ("noisy", 0.3))
    },
    criteria=[
        Criterion(
            "with exact gradients excess loss at most 1e-8 in every run, at the tuned eta",
            lambda f: f.largest("exact", "excess", arm=_tuned(f, "exact")),
            at_most=1e-8,
            paper="0",
        ),
        Criterion(
            "where error feedback stays above 1e-8",
            lambda f: f.smallest("exact", "excess", arm=EF),
            at_least=1e-8,
        ),
        Criterion(
            "with noise at most 0.8x of what error feedback ends at",
            lambda f: _against(f, "noisy", EF),
            at_most=0.8,
            gain=True,
        ),
        Criterion(
            "with noise at most 0.8x of what EF21 ends at",
            lambda f: _against(f, "noisy", EF21),
            at_most=0.8,
            gain=True,
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
    regime=quadratics_regime(
        "logistic regression, quadratics with unequal workers, and small networks",
        "unequal workers and noise in all gradients, as in the theory",
    ),
    minutes=3,
    limits="Convex, and small. With the same data on all workers, error feedback is better.",
)
