"""SGD-SaI matches AdamW with half of its state, by learning rates scaled once at initialisation."""

from sooner.claims._claim import Claim, Criterion, Race
from sooner.claims._regimes import ON_TEXT, oracle_shows, text_regime
from sooner.claims._shape import SCALES, at_scales, changes, steps_over

ROOT = "sgd_sai(scaling='sqrt_numel')"
"""The ablation: learning rates in proportion to the root of the number of entries, without looking at a gradient."""

CLAIM = Claim(
    part="sgd_sai",
    paper="sgd-sai",
    headline="Matches or beats AdamW on GPT-2 pre-training and ViT with half the optimizer memory.",
    source="Xu et al., 2024, arXiv 2412.11768, abstract",
    experiment=(
        "A character GPT at three sizes and two lengths of training: steps to the loss of the tuned AdamW, and of the "
        "tuned SGD with momentum; bytes of optimizer state; and the same rule with plain root-of-size scaling beside "
        "it."
    ),
    baseline="AdamW, and SGD with momentum 0.9, tuned with as many trials.",
    experiments={
        **at_scales("adamw; sgd_sai"),
        "against SGD": Race(f"sgd; sgd_sai; {ROOT}", "charlm", steps=1000),
    },
    criteria=[
        Criterion(
            "state at most 0.51x of AdamW's bytes",
            lambda f: f.state_ratio("1x, long", "sgd_sai"),
            at_most=0.51,
            paper="0.5x",
        ),
        Criterion(
            "matches AdamW: steps to the middle target at most 1.5x of AdamW's (1,000 steps)",
            lambda f: f.steps_ratio("1x, long", "sgd_sai"),
            at_most=1.5,
        ),
        Criterion(
            "at most 0.7x of the steps of SGD with momentum to its middle target",
            lambda f: f.steps_ratio("against SGD", "sgd_sai"),
            at_most=0.7,
            gain=True,
        ),
        Criterion(
            "not just root-of-size scaling: at most 0.95x of the steps of the rule that looks at no gradient",
            lambda f: f.steps_ratio("against SGD", "sgd_sai", against=ROOT),
            at_most=0.95,
            gain=True,
            control=True,
        ),
        oracle_shows("1x, long", "adamw"),
    ],
    trend=steps_over(SCALES, "sgd_sai"),
    changes=changes("sgd_sai"),
    regime=text_regime(
        "GPT-2 of 124M parameters on OpenWebText and vision Transformers, warm-up and cosine",
        "a GPT from random weights, as there; constant rates",
        optimizer="SGD with momentum",
    ),
    known=ON_TEXT,
    minutes=38,
    limits="Constant learning rates after no warm-up; the authors use a cosine and see slow early progress too.",
)
