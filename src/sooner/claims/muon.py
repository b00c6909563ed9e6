"""Muon reaches the loss of a tuned AdamW in fewer steps."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._regimes import ON_TEXT, oracle_shows, text_regime
from sooner.claims._shape import SCALES, at_scales, changes, steps_over

CLAIM = Claim(
    part="muon",
    paper="",
    headline="Muon needs 0.74x of AdamW's tokens to a fixed validation loss in the NanoGPT speed run (1.35x faster).",
    source="Jordan et al., 2024, 'Muon: an optimizer for hidden layers in neural networks', kellerjordan.github.io",
    experiment=(
        "A character GPT is trained with Muon on its hidden matrices and AdamW on the rest, against AdamW everywhere: "
        "steps to the loss that the tuned baseline reaches, at three sizes of the model and two lengths of training."
    ),
    baseline="AdamW, its learning rate tuned with as many trials as Muon's, in every race anew.",
    experiments=at_scales("adamw; muon"),
    criteria=[
        Criterion(
            "steps to the middle target at most 0.85x of AdamW's (1,000 steps)",
            lambda f: f.steps_ratio("1x, long", "muon"),
            at_most=0.85,
            gain=True,
            paper="0.74x",
        ),
        Criterion(
            "the same with four times the parameters",
            lambda f: f.steps_ratio("4x, long", "muon"),
            at_most=0.85,
            gain=True,
            paper="0.74x",
        ),
        oracle_shows("1x, long", "adamw"),
        oracle_shows("4x, long", "adamw"),
    ],
    trend=steps_over(SCALES, "muon"),
    changes=changes("muon"),
    regime=text_regime(
        "GPT-2 of 124M parameters on 10 billion tokens of FineWeb, rates decayed to zero",
        "a GPT from random weights, as there; constant rates, since steps to a loss are read within a run",
    ),
    known=ON_TEXT,
    minutes=33,
    limits="Learning rates are constant: the speed run decays them. A step of Muon costs more than one of AdamW.",
)
