"""Adan needs about half of the steps of the optimizers it is compared with, and bears larger learning rates."""

from sooner.claims._claim import Claim, Criterion, Race
from sooner.claims._regimes import ON_DIGITS, ON_TEXT, oracle_shows, text_regime
from sooner.claims._shape import ADAMW, SCALES, at_scales, changes, steps_over

LONG = "adamw(betas=(0.98, 0.99), weight_decay=0.0)"
"""AdamW that remembers as long as Adan does: without it, a gain could be that of the decay rates alone."""

CLAIM = Claim(
    part="adan",
    paper="",
    headline="Half of the training cost (epochs) of the best optimizers for vision transformers and others, as good.",
    source="Xie et al., 2022, arXiv 2208.06677, abstract",
    experiment=(
        "A character GPT at three sizes and two lengths of training, and images: steps to the loss of the tuned AdamW, "
        "and bytes of optimizer state. Beside them AdamW with Adan's decay rates."
    ),
    baseline=ADAMW,
    experiments={
        **at_scales("adamw; adan"),
        "digits": Race("adamw; adan", "digits", steps=400),
        "rates": Race(f"adamw; adan; {LONG}", "charlm", steps=1000),
    },
    criteria=[
        Criterion(
            "at most 0.7x of AdamW's steps to the middle target on text (1,000 steps)",
            lambda f: f.steps_ratio("1x, long", "adan"),
            at_most=0.7,
            gain=True,
            paper="0.5x",
        ),
        Criterion(
            "the same with four times the parameters",
            lambda f: f.steps_ratio("4x, long", "adan"),
            at_most=0.7,
            gain=True,
            paper="0.5x",
        ),
        Criterion(
            "on images at most 0.7x of AdamW's steps to the middle target",
            lambda f: f.steps_ratio("digits", "adan"),
            at_most=0.7,
            gain=True,
            paper="0.5x",
        ),
        Criterion(
            "the changes of gradients, not the decay rates: at most 0.95x of the steps of AdamW with these",
            lambda f: f.steps_ratio("rates", "adan", against=LONG),
            at_most=0.95,
            gain=True,
            control=True,
        ),
        oracle_shows("1x, long", "adamw"),
        oracle_shows("4x, long", "adamw"),
    ],
    trend={
        **steps_over((*SCALES, "digits"), "adan"),
        "state, in bytes of AdamW's": lambda f: f.state_ratio("1x, long", "adan"),
    },
    changes=changes("adan"),
    regime=text_regime(
        "Transformers and convolutions on ImageNet, GPT-2 and BERT, batches of thousands of images, tuned decay",
        "a GPT from random weights, as there; constant rates, no weight decay, and much smaller batches",
    ),
    known=(*ON_TEXT, *ON_DIGITS),
    minutes=40,
    limits="Small networks, batches of 8 windows of text or 64 images, where the change of a gradient is mostly noise.",
)
