"""Lion is at least as good as AdamW at language models, with half of its state."""

from sooner.claims._claim import Claim, Criterion, Race
from sooner.claims._regimes import ON_DIGITS, ON_TEXT, oracle_shows, text_regime
from sooner.claims._shape import ADAMW, SCALES, at_scales, changes, steps_over

SHORT, LONG = "lion(betas=(0.9, 0.9))", "lion(betas=(0.99, 0.99))"
"""The ablations of the paper: the sign of the momentum that is kept, at either of the two rates."""

CLAIM = Claim(
    part="lion",
    paper="",
    headline="Similar to Adam or better at language models, with up to 2x less compute, keeping only the momentum.",
    source="Chen et al., 2023, arXiv 2302.06675, abstract; the 2x in the authors' repository, google/automl",
    experiment=(
        "A character GPT at three sizes and two lengths of training: steps to the loss of the tuned AdamW, and bytes "
        "of optimizer state; steps on images, in batches of 64. Beside it the same rule with one decay rate for both."
    ),
    baseline=ADAMW,
    experiments={
        **at_scales("adamw; lion"),
        "digits": Race("adamw; lion", "digits", steps=400),
        "one rate": Race(f"adamw; lion; {SHORT}; {LONG}", "charlm", steps=1000),
    },
    criteria=[
        Criterion(
            "state at most 0.51x of AdamW's bytes",
            lambda f: f.state_ratio("1x, long", "lion"),
            at_most=0.51,
            paper="0.5x",
        ),
        Criterion(
            "similar to AdamW: steps to the middle target at most 1.05x of AdamW's (1,000 steps)",
            lambda f: f.steps_ratio("1x, long", "lion"),
            at_most=1.05,
        ),
        Criterion(
            "the same with four times the parameters",
            lambda f: f.steps_ratio("4x, long", "lion"),
            at_most=1.05,
        ),
        Criterion(
            "better than AdamW: steps to the middle target at most 0.9x of AdamW's (1,000 steps)",
            lambda f: f.steps_ratio("1x, long", "lion"),
            at_most=0.9,
            gain=True,
            paper="0.5x at best",
        ),
        Criterion(
            "similar on images, in batches of 64: steps to the middle target at most 1.05x of AdamW's",
            lambda f: f.steps_ratio("digits", "lion"),
            at_most=1.05,
        ),
        Criterion(
            "two rates, not just signs: at most 0.95x of the steps with 0.9 for both",
            lambda f: f.steps_ratio("one rate", "lion", against=SHORT),
            at_most=0.95,
            gain=True,
            control=True,
        ),
        Criterion(
            "and at most 0.95x of the steps with 0.99 for both",
            lambda f: f.steps_ratio("one rate", "lion", against=LONG),
            at_most=0.95,
            gain=True,
            control=True,
        ),
        oracle_shows("1x, long", "adamw"),
        oracle_shows("4x, long", "adamw"),
    ],
    trend=steps_over((*SCALES, "digits"), "lion"),
    changes=changes("lion"),
    regime=text_regime(
        "Transformers of up to 7.5B parameters on Wiki-40B, PG-19 and more, large batches, tuned weight decay",
        "a GPT from random weights, as there; constant rates, no weight decay, and on text smaller batches than the "
        "64 from which on the authors expect a gain; images come in batches of 64",
    ),
    known=(*ON_TEXT, *ON_DIGITS),
    minutes=40,
    limits="The paper finds the gain to grow with the batch, here 8 windows of text or 64 images, and with the model.",
)
