"""Sophia-H takes steps that do not depend on the condition number, and beats AdamW."""

from typing import Any

import torch
from torch import nn

from sooner.claims._claim import Claim, Criterion, Measurement
from sooner.claims._findings import times
from sooner.claims._regimes import ON_TEXT, text_regime
from sooner.claims._shape import IN_STEPS, at_horizons, steps_over
from sooner.update.sophia_h import SophiaH

EVALUATIONS = 1.2
"""Gradients per step: every tenth step differentiates the gradient once more, which costs about two."""


def descend(condition: float, dimensions: int) -> dict[str, Any]:
    """Return the steps to a thousandth of the loss on a bowl with curvatures from 1 to `condition`."""
    curvatures = torch.logspace(0, float(torch.log10(torch.tensor(condition))), dimensions, dtype=torch.float64)
    theta = nn.Parameter(torch.full((dimensions,), 0.5, dtype=torch.float64))
    optimizer = SophiaH([theta], lr=0.05, rho=1.0, weight_decay=0.0, every=1)

    def loss() -> torch.Tensor:
        return (curvatures * theta.square()).sum() / 2

    started = float(loss().detach())
    for step in range(1, 5001):
        optimizer.zero_grad()
        torch.autograd.backward(loss())
        optimizer.step(loss)
        if float(loss().detach()) <= 1e-3 * started:
            return {"steps": step}
    return {"steps": None}


CASES = [{"condition": condition, "dimensions": 20} for condition in (10.0, 1e4)]

CLAIM = Claim(
    part="sophia_h",
    paper="sophia",
    headline="A bound that does not depend on the condition number, and fewer steps than AdamW.",
    source="Liu et al., 2023, arXiv 2305.14342, section 4 and figure 4",
    experiment=(
        "Bowls with diagonal curvatures up to 10 and up to 10,000 are descended with the same settings; a character "
        "GPT is trained for two lengths: gradients evaluated until AdamW's loss is reached, those for the curvature "
        "counted."
    ),
    baseline="AdamW, tuned with as many trials; Sophia-H tunes its learning rate and rho.",
    experiments={
        "bowls": Measurement(descend, CASES, CASES),
        **at_horizons("adamw; sophia_h"),
    },
    criteria=[
        Criterion(
            "steps at condition number 10,000 at most 1.1x of those at 10",
            lambda f: f.paired_ratio("bowls", "steps", {"condition": 1e4}, {"condition": 10.0}),
            at_most=1.1,
            paper="1x",
        ),
        Criterion(
            "gradients to the middle target at most 0.85x of AdamW's",
            lambda f: times(f.steps_ratio("long", "sophia_h"), EVALUATIONS),
            at_most=0.85,
            gain=True,
        ),
    ],
    trend=steps_over(IN_STEPS, "sophia_h", passes=EVALUATIONS),
    regime=text_regime(
        "GPT-2 of 125M to 770M parameters on OpenWebText, batches of 480, 100,000 steps, warm-up and cosine",
        "a GPT from random weights, as there; constant rates, and at most 1,000 steps",
    ),
    known=ON_TEXT,
    minutes=7,
    limits="On a diagonal bowl one Hutchinson draw is exact. The paper trains a thousand times longer, with decay.",
)
