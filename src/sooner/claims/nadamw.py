"""NAdamW is at least as good as AdamW, at the same cost."""

from sooner.claims._claim import Claim, Criterion, Race
from sooner.claims._regimes import ON_DIGITS, ON_TEXT, oracle_shows, text_regime
from sooner.claims._shape import ADAMW, SCALES, at_scales, changes, steps_over

CLAIM = Claim(
    part="nadamw",
    paper="",
    headline="Nesterov's momentum in Adam converges faster and to better models (preliminary evidence).",
    source='Dozat, 2016, "Incorporating Nesterov Momentum into Adam", abstract',
    experiment=(
        "A character GPT at three sizes and two lengths of training, and images: steps to the loss of the tuned AdamW, "
        "and bytes of optimizer state."
    ),
    baseline=ADAMW,
    experiments={
        **at_scales("adamw; nadamw"),
        "digits": Race("adamw; nadamw", "digits", steps=400),
    },
    criteria=[
        Criterion(
            "at most 0.95x of AdamW's steps to the middle target on text (1,000 steps)",
            lambda f: f.steps_ratio("1x, long", "nadamw"),
            at_most=0.95,
            gain=True,
        ),
        Criterion(
            "on images at most 0.95x of AdamW's steps to the middle target",
            lambda f: f.steps_ratio("digits", "nadamw"),
            at_most=0.95,
            gain=True,
        ),
        Criterion(
            "never worse: on text with four times the parameters at most 1.05x of AdamW's steps",
            lambda f: f.steps_ratio("4x, long", "nadamw"),
            at_most=1.05,
        ),
        Criterion(
            "state at most 1.01x of AdamW's bytes",
            lambda f: f.state_ratio("1x, long", "nadamw"),
            at_most=1.01,
            paper="1x",
        ),
        oracle_shows("1x, long", "adamw"),
        oracle_shows("4x, long", "adamw"),
    ],
    trend=steps_over((*SCALES, "digits"), "nadamw"),
    changes=changes("nadamw"),
    regime=text_regime(
        "A convolutional autoencoder of MNIST's images",
        "networks from random weights and tuned rates, as there; a transformer beside images, and decoupled decay",
    ),
    known=(*ON_TEXT, *ON_DIGITS),
    minutes=40,
    limits="Small networks for hundreds of steps; the paper itself shows one small task.",
)
