"""KL-Shampoo does as well as SOAP or better, without Adam's second moment, because its factors fit each other."""

from sooner.claims._claim import Claim, Criterion, Race
from sooner.claims._regimes import ON_TEXT, oracle_shows, text_regime
from sooner.claims._shape import SCALES, at_scales, changes, steps_over

OURS = "kl_shampoo(initial=0.001)"
"""Eigenvalues that begin near those of these gradients: from the authors' 0.1 it takes hundreds of steps there."""

CLAIM = Claim(
    part="kl_shampoo",
    paper="",
    headline="KL-Shampoo is consistently better than SOAP, Shampoo and KL-SOAP in pre-training, without Adam's memory.",
    source="Lin et al., 2025, arXiv 2509.03378, abstract",
    experiment=(
        "A character GPT is trained with KL-Shampoo and with SOAP on its hidden matrices and AdamW on the rest, at "
        "three sizes and two lengths of training: steps to the loss of the tuned SOAP, and bytes of optimizer state. "
        "AdamW everywhere shows what both are worth."
    ),
    baseline="SOAP, tuned with as many trials, in every race anew; and AdamW in a race of its own.",
    experiments={
        **at_scales(f"soap; {OURS}"),
        "against AdamW": Race(f"adamw; {OURS}; kl_shampoo", "charlm", steps=1000),
    },
    criteria=[
        Criterion(
            "at most 0.95x of SOAP's steps to the middle target (1,000 steps)",
            lambda f: f.steps_ratio("1x, long", OURS),
            at_most=0.95,
            gain=True,
            paper="lower loss after as many steps",
        ),
        Criterion(
            "the same with four times the parameters",
            lambda f: f.steps_ratio("4x, long", OURS),
            at_most=0.95,
            gain=True,
            paper="lower loss after as many steps",
        ),
        Criterion(
            "state at most 0.95x of SOAP's bytes",
            lambda f: f.state_ratio("1x, long", OURS),
            at_most=0.95,
            paper="one number per weight less",
        ),
        Criterion(
            "not just any optimizer: at most 0.9x of AdamW's steps",
            lambda f: f.steps_ratio("against AdamW", OURS),
            at_most=0.9,
            gain=True,
            control=True,
        ),
        oracle_shows("1x, long", "soap"),
        oracle_shows("4x, long", "soap"),
    ],
    trend={
        **steps_over(SCALES, OURS),
        "final loss (1,000 steps)": lambda f: f.final_ratio("1x, long", OURS),
        "steps, from the authors' start, against ours": lambda f: f.steps_ratio("against AdamW", "kl_shampoo", OURS),
    },
    changes=changes(OURS),
    regime=text_regime(
        "Pre-training of networks far larger than ours",
        "a GPT from random weights, as there; constant rates, small batches, and eigenvalues that begin lower, because "
        "runs are far shorter",
        optimizer="SOAP",
    ),
    known=ON_TEXT,
    minutes=50,
    limits=(
        "Batches are small, and sides at most a few hundred. The authors compute in bfloat16, we in float32. Where "
        "eigenvalues begin was chosen on this task, at one seed."
    ),
)
