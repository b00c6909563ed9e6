"""MARS reaches AdamW's loss sooner at language models: the change of the gradient cancels part of its noise."""

from sooner.claims._claim import Claim, Criterion, Race
from sooner.claims._regimes import ON_DIGITS, ON_TEXT, oracle_shows, text_regime
from sooner.claims._shape import ADAMW, SCALES, at_scales, changes, steps_over

UNCORRECTED = "mars(gamma=0.0)"
"""All else of it: its decay rates, the limit on every gradient, AdamW for vectors."""
LONG = "adamw(betas=(0.95, 0.99), weight_decay=0.0)"
"""AdamW that remembers as long."""

CLAIM = Claim(
    part="mars",
    paper="",
    headline="GPT-2 large ends at 2.52 after 50 billion tokens, where AdamW ends at 2.56; smaller ones gain as much.",
    source="Yuan et al., 2024, arXiv 2411.10438; the figures from the authors' repository, AGI-Arena/MARS",
    experiment=(
        "A character GPT at three sizes and two lengths of training, and images: steps to the loss of the tuned AdamW, "
        "and the last loss. Beside it the same without the correction, and AdamW with its decay rates."
    ),
    baseline=ADAMW,
    experiments={
        **at_scales("adamw; mars"),
        "digits": Race("adamw; mars", "digits", steps=400),
        "pieces": Race(f"adamw; mars; {UNCORRECTED}; {LONG}", "charlm", steps=1000),
    },
    criteria=[
        Criterion(
            "at most 0.9x of AdamW's steps to the middle target on text (1,000 steps)",
            lambda f: f.steps_ratio("1x, long", "mars"),
            at_most=0.9,
            gain=True,
        ),
        Criterion(
            "the same with four times the parameters",
            lambda f: f.steps_ratio("4x, long", "mars"),
            at_most=0.9,
            gain=True,
        ),
        Criterion(
            "lower last loss than AdamW with four times the parameters: at most 0.99x",
            lambda f: f.final_ratio("4x, long", "mars"),
            at_most=0.99,
            gain=True,
            paper="0.98x",
        ),
        Criterion(
            "the correction is what helps: at most 0.97x of the steps without it",
            lambda f: f.steps_ratio("pieces", "mars", against=UNCORRECTED),
            at_most=0.97,
            gain=True,
            control=True,
        ),
        Criterion(
            "not the decay rates alone: at most 0.97x of the steps of AdamW with these",
            lambda f: f.steps_ratio("pieces", "mars", against=LONG),
            at_most=0.97,
            gain=True,
            control=True,
        ),
        oracle_shows("1x, long", "adamw"),
        oracle_shows("4x, long", "adamw"),
    ],
    trend={
        **steps_over((*SCALES, "digits"), "mars"),
        "without the correction, against AdamW": lambda f: f.steps_ratio("pieces", UNCORRECTED),
        "state, in bytes of AdamW's": lambda f: f.state_ratio("1x, long", "mars"),
    },
    changes=changes("mars"),
    regime=text_regime(
        "GPT-2 of 125M to 770M parameters on OpenWebText, batches of 480 windows, cosine schedules, weight decay 0.1",
        "a GPT from random weights, as there; constant rates, no weight decay, and much smaller batches",
    ),
    known=(*ON_TEXT, *ON_DIGITS),
    minutes=48,
    limits="Batches of 8 windows of text or 64 images: the change of a gradient is mostly noise, which it then adds.",
)
