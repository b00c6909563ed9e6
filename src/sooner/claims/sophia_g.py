"""Sophia-G halves the steps of AdamW in language-model pre-training."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._findings import times
from sooner.claims._regimes import ON_TEXT, oracle_shows, text_regime
from sooner.claims._shape import SCALES, at_scales, changes, steps_over

EVALUATIONS = 1.1
"""Gradients per step: every tenth step takes another forward and backward pass for the curvature."""

CLAIM = Claim(
    part="sophia_g",
    paper="sophia",
    headline="2x fewer steps, compute and wall time than AdamW on GPT-2 of 125M to 770M parameters.",
    source="Liu et al., 2023, arXiv 2305.14342, abstract",
    experiment=(
        "A character GPT at three sizes and two lengths of training: gradients evaluated until AdamW's loss is "
        "reached, those for the curvature counted."
    ),
    baseline="AdamW, tuned with as many trials; Sophia-G tunes its learning rate and rho.",
    experiments=at_scales("adamw; sophia_g"),
    criteria=[
        Criterion(
            "gradients to the middle target at most 0.85x of AdamW's (1,000 steps)",
            lambda f: times(f.steps_ratio("1x, long", "sophia_g"), EVALUATIONS),
            at_most=0.85,
            gain=True,
            paper="0.5x",
        ),
        Criterion(
            "the same with four times the parameters",
            lambda f: times(f.steps_ratio("4x, long", "sophia_g"), EVALUATIONS),
            at_most=0.85,
            gain=True,
            paper="0.5x",
        ),
        oracle_shows("1x, long", "adamw"),
        oracle_shows("4x, long", "adamw"),
    ],
    trend=steps_over(SCALES, "sophia_g", passes=EVALUATIONS),
    changes=changes("sophia_g"),
    regime=text_regime(
        "GPT-2 of 125M to 770M parameters on OpenWebText, batches of 480, 100,000 steps, warm-up and cosine",
        "a GPT from random weights, as there; constant rates, and at most 1,000 steps",
    ),
    known=ON_TEXT,
    minutes=33,
    limits=(
        "The paper trains a thousand times longer with warm-up and decay; here rates are constant, and six trials "
        "cover two knobs where AdamW has one."
    ),
)
