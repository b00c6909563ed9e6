"""ROOT is more robust than Muon where gradients hold outliers, and orthogonalises every shape alike."""

from typing import Any

import torch

from sooner.claims._claim import Claim, Criterion, Measurement, Race
from sooner.claims._regimes import ON_TEXT, oracle, oracle_shows, text_regime
from sooner.update._newton_fit import coefficients
from sooner.update._orthogonal import COEFFICIENTS, newton_schulz

SHAPES = [(64, 64), (64, 192), (64, 256), (128, 128), (128, 512)]
UNCUT = "root(quantile=1.0)"
"""The ablation: the fitted orthogonalisation without cutting outliers off."""


def distance(rows: int, columns: int, seed: int) -> dict[str, Any]:
    """Return the mean squared distance of singular values from 1 after five iterations on Gaussian matrices."""
    matrices = torch.randn(8, rows, columns, generator=torch.Generator().manual_seed(seed))
    found = {}
    for arm, chosen in (("muon", COEFFICIENTS), ("root", coefficients(rows, columns))):
        values = torch.linalg.svdvals(newton_schulz(matrices, 5, chosen).double())
        found[arm] = float((values - 1).square().mean())
    return {**found, "ratio": found["root"] / found["muon"]}


CASES = [{"rows": rows, "columns": columns, "seed": 0} for rows, columns in SHAPES]

CLAIM = Claim(
    part="root",
    paper="root",
    headline="Converges faster and ends better than Muon, above all where gradients are noisy; precise for all shapes.",
    source="He et al., 2025, arXiv 2511.20626, abstract",
    experiment=(
        "A character GPT is trained with Muon and with ROOT, with clean gradients and with one entry in a thousand "
        "replaced by noise of a hundred times the usual size: steps to Muon's loss. How far from orthogonal five "
        "iterations leave Gaussian matrices of five shapes is measured apart."
    ),
    baseline="Muon, tuned with as many trials, on the same clean or corrupted gradients.",
    experiments={
        "shapes": Measurement(distance, CASES, CASES[:2]),
        "clean": Race("muon; root", "charlm", steps=1000),
        "outliers": Race(f"muon; root; {UNCUT}; {oracle('muon')}", "charlm_outliers", steps=1000),
    },
    criteria=[
        Criterion(
            "with outliers at most 0.85x of Muon's steps to the middle target",
            lambda f: f.steps_ratio("outliers", "root"),
            at_most=0.85,
            gain=True,
        ),
        Criterion(
            "without outliers at most 1.05x of Muon's steps",
            lambda f: f.steps_ratio("clean", "root"),
            at_most=1.05,
        ),
        Criterion(
            "on every shape at most 0.5x of Muon's squared distance from orthogonal",
            lambda f: f.largest("shapes", "ratio", "x"),
            at_most=0.5,
        ),
        Criterion(
            "the cut is what helps: with outliers at most 0.95x of the steps without cutting",
            lambda f: f.steps_ratio("outliers", "root", against=UNCUT),
            at_most=0.95,
            gain=True,
            control=True,
        ),
        oracle_shows("outliers", "muon"),
    ],
    trend={
        "final loss, clean": lambda f: f.final_ratio("clean", "root"),
        "final loss, outliers": lambda f: f.final_ratio("outliers", "root"),
    },
    regime=text_regime(
        "a 1B Transformer on FineWeb-Edu, 10 billion tokens, cosine; noise of outliers in gradients",
        "Muon on a GPT from random weights, as there; outliers are put in on purpose",
        optimizer="Muon",
    ),
    known=ON_TEXT,
    minutes=14,
    limits="The coefficients are fitted here, since the authors published only those of a few large shapes.",
)
