"""A constant learning rate with averaged weights comes close to decay."""

from sooner.claims._claim import Claim, Criterion, Race

CONSTANT = "adamw + constant(warmup=6)"
"""It warms up over 5 % of the steps as the cosine does."""

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
    experiments={"text": Race(f"adamw + cosine; {CONSTANT}; {CONSTANT} + ema", "charlm", steps=120)},
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
    ],
    trend={
        "without averaging, final loss": lambda f: f.final_ratio("text", CONSTANT),
        "without averaging, length": lambda f: f.steps_ratio("text", CONSTANT),
    },
    minutes=4,
    limits="One small model, 120 steps.",
)
