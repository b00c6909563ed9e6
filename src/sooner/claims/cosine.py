"""Cosine decay ends lower than a constant learning rate, and averaging does not explain it."""

from sooner.claims._claim import Claim, Criterion, Race

CLAIM = Claim(
    part="cosine",
    paper="",
    headline="Annealing the learning rate along a cosine improves on rates that stay high, at any budget.",
    source="Loshchilov and Hutter, 2016, arXiv 1608.03983, sections 3 and 4",
    experiment=(
        "A character GPT is trained with AdamW at a constant rate, with cosine decay, and at a constant rate with an "
        "exponential moving average of the weights: the length of training that reaches the baseline's loss."
    ),
    baseline="AdamW at a constant rate, tuned over the same range, which also holds the halves of its rates.",
    experiments={"text": Race("adamw; adamw + cosine; adamw + ema", "charlm", steps=120)},
    criteria=[
        Criterion(
            "at most 0.85x of the length of training at a constant rate",
            lambda f: f.steps_ratio("text", "adamw + cosine"),
            at_most=0.85,
            gain=True,
        ),
        Criterion(
            "not just averaging: at most 0.95x of the length with a moving average of the weights",
            lambda f: f.steps_ratio("text", "adamw + cosine", against="adamw + ema"),
            at_most=0.95,
            gain=True,
            control=True,
        ),
    ],
    trend={
        "constant with moving average": lambda f: f.steps_ratio("text", "adamw + ema"),
        "final loss": lambda f: f.final_ratio("text", "adamw + cosine"),
    },
    minutes=4,
    limits="One small model, 120 steps. Restarts, the paper's other idea, are not part of `cosine`.",
)
