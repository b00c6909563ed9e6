"""Cosine decay ends lower than a constant learning rate, and averaging does not explain it."""

from sooner.claims._claim import Claim, Criterion, Known, Race
from sooner.claims._regimes import ON_TEXT, text_regime
from sooner.claims._shape import CONSTANT, TO_THE_END

CLAIM = Claim(
    part="cosine",
    paper="",
    headline="Annealing the learning rate along a cosine improves on rates that stay high, at any budget.",
    source="Loshchilov and Hutter, 2016, arXiv 1608.03983, sections 3 and 4",
    experiment=(
        "A character GPT is trained with AdamW at a constant rate, with cosine decay, and at a constant rate with an "
        "exponential moving average of the weights, all after the same warm-up: the length of training that reaches "
        "the baseline's loss."
    ),
    baseline="AdamW at a constant rate, tuned over the same range, which also holds the halves of its rates.",
    experiments={"text": Race(f"{CONSTANT}; adamw + cosine; {CONSTANT} + ema", "charlm", steps=TO_THE_END)},
    criteria=[
        Criterion(
            "at most 0.85x of the length of training at a constant rate",
            lambda f: f.steps_ratio("text", "adamw + cosine"),
            at_most=0.85,
            gain=True,
        ),
        Criterion(
            "not just averaging: at most 0.95x of the length with a moving average of the weights",
            lambda f: f.steps_ratio("text", "adamw + cosine", against=f"{CONSTANT} + ema"),
            at_most=0.95,
            gain=True,
            control=True,
        ),
    ],
    trend={
        "constant with moving average": lambda f: f.steps_ratio("text", f"{CONSTANT} + ema"),
        "final loss": lambda f: f.final_ratio("text", "adamw + cosine"),
    },
    regime=text_regime(
        "wide residual networks on CIFAR for 200 passes, SGD with momentum, cosine with and without restarts",
        "long enough for noise to bound a constant rate, which decay is for; text and AdamW, where everybody decays",
        schedule="constant, and cosine to zero, after 5 % of warm-up",
    ),
    known=(*ON_TEXT, Known("decay", "charlm")),
    minutes=18,
    limits="One small model, 2,000 steps. Restarts, the paper's other idea, are not part of `cosine`.",
)
