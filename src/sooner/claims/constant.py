"""A constant learning rate with averaged weights comes close to decay."""

from sooner.claims._claim import Claim, Criterion, Known, Race
from sooner.claims._regimes import ON_TEXT, text_regime
from sooner.claims._shape import CONSTANT, TO_THE_END, decay_shows

CLAIM = Claim(
    part="constant",
    paper="",
    headline="Constant rates with averaged weights need no decay to a fixed end and come close to its loss.",
    source="Hägele et al., 2024, arXiv 2405.18392, section on weight averaging",
    experiment=(
        "A character GPT is trained with cosine decay, at a constant rate, and at a constant rate with an exponential "
        "moving average of the weights: loss at equal length, and the length that reaches the cosine's loss."
    ),
    baseline="AdamW with cosine decay; everything tuned with as many trials.",
    experiments={"text": Race(f"adamw + cosine; {CONSTANT}; {CONSTANT} + ema", "charlm", steps=TO_THE_END)},
    criteria=[
        Criterion(
            "with averaging a final loss of at most 1.01x of the cosine's",
            lambda f: f.final_ratio("text", f"{CONSTANT} + ema"),
            at_most=1.01,
        ),
        Criterion(
            "with averaging at most 1.1x of the length with cosine decay",
            lambda f: f.steps_ratio("text", f"{CONSTANT} + ema"),
            at_most=1.1,
        ),
        decay_shows("text", CONSTANT),
    ],
    trend={
        "without averaging, final loss": lambda f: f.final_ratio("text", CONSTANT),
        "without averaging, length": lambda f: f.steps_ratio("text", CONSTANT),
    },
    regime=text_regime(
        "Transformers of 33M to 360M parameters on SlimPajama, up to 50,000 steps, AdamW",
        "a language model long enough for decay to show, as there; averages of one kind",
        schedule="cosine, and what is compared with it, after 5 % of warm-up",
    ),
    known=(*ON_TEXT, Known("decay", "charlm")),
    minutes=26,
    limits="One small model, 2,000 steps.",
)
