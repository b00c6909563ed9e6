"""AdEMAMix reaches AdamW's loss in far fewer steps at language models, because old gradients still count."""

from sooner.claims._claim import Claim, Criterion, Race
from sooner.claims._regimes import ON_TEXT, oracle_shows, text_regime
from sooner.claims._shape import ADAMW, SCALES, at_scales, changes, steps_over

OURS = "ademamix(betas=(0.9, 0.999, 0.999), alpha_warmup=250, beta3_warmup=250)"
"""A slow momentum that fits into 1,000 steps; both schedules take the length of the short runs."""
QUICK = "ademamix(betas=(0.9, 0.999, 0.9))"
"""As much weight on momentum, all of it quick: it is AdamW at another rate after the first steps."""
AT_ONCE = "ademamix(betas=(0.9, 0.999, 0.999))"
"""Without schedules."""

CLAIM = Claim(
    part="ademamix",
    paper="",
    headline="A 1.3B model trained on 101B tokens is as good as one trained with AdamW on 197B (1.95x as many).",
    source="Pagliardini et al., 2024, arXiv 2409.03137, abstract",
    experiment=(
        "A character GPT at three sizes and two lengths of training: steps to the loss of the tuned AdamW, and bytes "
        "of optimizer state. Beside it the same rule with two quick momenta, and without its schedules."
    ),
    baseline=ADAMW,
    experiments={
        **at_scales(f"adamw; {OURS}"),
        "pieces": Race(f"adamw; {OURS}; {QUICK}; {AT_ONCE}", "charlm", steps=1000),
    },
    criteria=[
        Criterion(
            "fewer steps to the middle target: at most 0.9x of AdamW's (1,000 steps)",
            lambda f: f.steps_ratio("1x, long", OURS),
            at_most=0.9,
            gain=True,
            paper="0.51x",
        ),
        Criterion(
            "the same with four times the parameters",
            lambda f: f.steps_ratio("4x, long", OURS),
            at_most=0.9,
            gain=True,
            paper="0.51x",
        ),
        Criterion(
            "state at most 1.51x of AdamW's bytes",
            lambda f: f.state_ratio("1x, long", OURS),
            at_most=1.51,
            paper="1.5x",
        ),
        Criterion(
            "the slow momentum, not just more of it: at most 0.95x of the steps with two quick ones",
            lambda f: f.steps_ratio("pieces", OURS, against=QUICK),
            at_most=0.95,
            gain=True,
            control=True,
        ),
        oracle_shows("1x, long", "adamw"),
        oracle_shows("4x, long", "adamw"),
    ],
    trend={
        **steps_over(SCALES, OURS),
        "with schedules, against without": lambda f: f.steps_ratio("pieces", OURS, against=AT_ONCE),
    },
    changes=changes(OURS),
    regime=text_regime(
        "Transformers of 110M to 1.3B parameters on RedPajama, 256,000 steps and more, cosine schedules, decay 0.1",
        "a GPT from random weights, as there; constant rates and a slow momentum of 0.999 in place of 0.9999, because "
        "runs are hundreds of times shorter",
    ),
    known=ON_TEXT,
    minutes=40,
    limits="The paper finds the gain to grow with the number of steps; 1,000 are few for a momentum that is slow.",
)
