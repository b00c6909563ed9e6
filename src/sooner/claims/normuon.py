"""NorMuon reaches Muon's loss in fewer steps, because no neurons learn faster than the others."""

from typing import Any

import torch
from torch import nn

from sooner.claims._claim import Claim, Criterion, Measurement, Race
from sooner.claims._regimes import ON_TEXT, oracle, oracle_shows, text_regime
from sooner.claims._shape import SCALES, at_scales, changes, steps_over
from sooner.update.muon import Muon
from sooner.update.normuon import NorMuon

SHAPES = [(256, 64), (512, 128), (64, 256)]
"""Tall, as the first matrix of a feed-forward layer is, and wide."""
AT_ONCE = "normuon(beta2=0.0)"
"""All rows of every step get one length; nothing is remembered."""


def spread(rows: int, columns: int, seed: int) -> dict[str, Any]:
    """Return the largest over the smallest row of one step, whose gradients' rows span two decades in size."""
    generator = torch.Generator().manual_seed(seed)
    scales = 10.0 ** (-2 * torch.rand(rows, 1, generator=generator))
    found = {}
    for arm, method in (("muon", Muon), ("normuon", NorMuon)):
        p = nn.Parameter(torch.zeros(rows, columns))
        optimizer = method([{"params": [p], arm: True}])
        for step in range(20):
            noise = torch.randn(rows, columns, generator=torch.Generator().manual_seed(1000 * seed + step))
            p.grad = scales * noise
            before = p.detach().clone()
            optimizer.step()
        lengths = (p.detach() - before).norm(dim=1)
        found[arm] = float(lengths.max() / lengths.min())
    return {**found, "ratio": found["normuon"] / found["muon"]}


CASES = [{"rows": rows, "columns": columns, "seed": seed} for rows, columns in SHAPES[:2] for seed in range(3)]
WIDE = [{"rows": rows, "columns": columns, "seed": seed} for rows, columns in SHAPES[2:] for seed in range(3)]

CLAIM = Claim(
    part="normuon",
    paper="",
    headline="11% less training than Muon and 22% less than Adam to the same loss, at 1.1B parameters.",
    source="Li et al., 2025, arXiv 2510.05491, abstract",
    experiment=(
        "A character GPT at three sizes and two lengths of training: steps to the loss of the tuned Muon, and to that "
        "of the tuned AdamW, and bytes of optimizer state. How unequal the rows of a step are is measured apart, on "
        "tall and on wide matrices."
    ),
    baseline="Muon, tuned with as many trials; AdamW in a race of its own.",
    experiments={
        **at_scales("muon; normuon"),
        "against AdamW": Race("adamw; muon; normuon", "charlm", steps=1000),
        "at once": Race(f"muon; normuon; {AT_ONCE}; {oracle('muon')}", "charlm", steps=1000),
        "rows": Measurement(spread, CASES, CASES[:1]),
        "rows of wide": Measurement(spread, WIDE, WIDE[:1]),
    },
    criteria=[
        Criterion(
            "at most 0.95x of Muon's steps to the middle target (1,000 steps)",
            lambda f: f.steps_ratio("1x, long", "normuon"),
            at_most=0.95,
            gain=True,
            paper="0.89x",
        ),
        Criterion(
            "the same with four times the parameters",
            lambda f: f.steps_ratio("4x, long", "normuon"),
            at_most=0.95,
            gain=True,
            paper="0.89x",
        ),
        Criterion(
            "state at most 1.05x of Muon's bytes",
            lambda f: f.state_ratio("1x, long", "normuon"),
            at_most=1.05,
        ),
        Criterion(
            "rows of tall matrices: the largest over the smallest at most 0.5x of Muon's",
            lambda f: f.largest("rows", "ratio", "x"),
            at_most=0.5,
        ),
        oracle_shows("1x, long", "muon"),
        oracle_shows("4x, long", "muon"),
    ],
    trend={
        **steps_over(SCALES, "normuon"),
        "against AdamW": lambda f: f.steps_ratio("against AdamW", "normuon"),
        "Muon against AdamW": lambda f: f.steps_ratio("against AdamW", "muon"),
        "with memory, against without": lambda f: f.steps_ratio("at once", "normuon", against=AT_ONCE),
        "rows of wide matrices, of Muon's": lambda f: f.largest("rows of wide", "ratio", "x"),
    },
    changes=changes("normuon"),
    regime=text_regime(
        "Transformers of 124M to 5.4B parameters on language, batches of millions of tokens, rates decayed",
        "Muon on a GPT from random weights, as there; constant rates, since steps to a loss are read within a run",
        optimizer="Muon",
    ),
    known=ON_TEXT,
    minutes=50,
    limits="The rows of a wide or square orthogonal matrix have one length already; a small GPT has few tall ones.",
)
