"""Prodigy, which nobody has tuned, ends about as low as AdamW with a tuned learning rate."""

from sooner.claims._claim import Claim, Criterion, Race
from sooner.claims._regimes import ON_DIGITS, ON_TEXT, oracle, oracle_shows, text_regime

OURS = "prodigy(d_coef=1.0)"
"""Nothing of it is tuned."""
DEFAULT = "adamw(lr=0.001)"
"""What people take who tune nothing."""
WRONG = "adamw(lr=0.0001)"
"""A rate that is one to two orders of magnitude too small."""
RECIPES = f"adamw; {OURS}; {DEFAULT}; {WRONG}; {oracle('adamw')}"

CLAIM = Claim(
    part="prodigy",
    paper="",
    headline="Without a learning rate it reaches test accuracies close to those of Adam, tuned by hand.",
    source="Mishchenko and Defazio, 2023, arXiv 2306.06101, abstract and section 6",
    experiment=(
        "A character GPT and a convolutional network are trained with Prodigy, all of whose settings are the defaults, "
        "and with AdamW: tuned, at its default rate, and at a tenth of that. Steps to the loss of the tuned AdamW, and "
        "the loss at equal length."
    ),
    baseline="AdamW at a constant rate, tuned; Prodigy has no trials.",
    experiments={
        "text": Race(RECIPES, "charlm", steps=1000),
        "digits": Race(RECIPES, "digits", steps=400),
    },
    criteria=[
        Criterion(
            "on text a final loss of at most 1.02x of the tuned AdamW's",
            lambda f: f.final_ratio("text", OURS),
            at_most=1.02,
            paper="about 1x",
        ),
        Criterion(
            "and at most 1.2x of its steps to the middle target",
            lambda f: f.steps_ratio("text", OURS),
            at_most=1.2,
            paper="about 1x",
        ),
        Criterion(
            "on images at most 1.2x of its steps to the middle target",
            lambda f: f.steps_ratio("digits", OURS),
            at_most=1.2,
            paper="about 1x",
        ),
        Criterion(
            "finding it is worth something: on text it ends lower than AdamW at its default rate",
            lambda f: f.final_ratio("text", OURS, against=DEFAULT),
            at_most=1.0,
            gain=True,
            control=True,
        ),
        Criterion(
            "rates matter here: on text AdamW at a tenth of its default ends at least 1.05x as high",
            lambda f: f.final_ratio("text", WRONG),
            at_least=1.05,
            gain=True,
            positive=True,
        ),
        oracle_shows("text", "adamw"),
        oracle_shows("digits", "adamw"),
    ],
    trend={
        "digits, final loss": lambda f: f.final_ratio("digits", OURS),
        "digits, against AdamW's default": lambda f: f.steps_ratio("digits", OURS, against=DEFAULT),
        "state, in bytes of AdamW's": lambda f: f.state_ratio("text", OURS),
    },
    regime=text_regime(
        "logistic regression, residual networks on CIFAR and ImageNet, translation, GPT and BERT; cosine or flat",
        "a Transformer from random weights and Adam, as there; a constant rate, and runs in which d grows for a while",
    ),
    known=(*ON_TEXT, *ON_DIGITS),
    minutes=25,
    limits="Two small networks and short runs, of which the first dozens of steps go into finding d.",
)
