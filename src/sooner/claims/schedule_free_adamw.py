"""Schedule-Free AdamW ends as low as AdamW with a cosine, at any length, without knowing it beforehand."""

from sooner.claims._claim import Claim, Criterion, Known, Race
from sooner.claims._regimes import ON_TEXT, text_regime
from sooner.claims._shape import CONSTANT, TO_THE_END, decay_shows

OURS = f"schedule_free_adamw(warmup={TO_THE_END // 20})"
"""It warms up over as many steps as the schedules do in the long race."""
HALF = TO_THE_END // 2

CLAIM = Claim(
    part="schedule_free_adamw",
    paper="",
    headline="Without a schedule as good as schedules that know the length of training, or better, at every length.",
    source="Defazio et al., 2024, arXiv 2405.15682, abstract and section 4",
    experiment=(
        "A character GPT is trained for two lengths with AdamW and cosine decay, and with Schedule-Free AdamW, which "
        "is told neither: the length of training that reaches the cosine's loss, and the loss at equal length. Beside "
        "them AdamW at a constant rate with a moving average of its weights, which needs no schedule either."
    ),
    baseline="AdamW with cosine decay to zero, all learning rates tuned with as many trials.",
    experiments={
        "text": Race(f"adamw + cosine; {OURS}; {CONSTANT} + ema; {CONSTANT}", "charlm", steps=TO_THE_END),
        "half": Race(f"adamw + cosine; {OURS}; {CONSTANT}", "charlm", steps=HALF),
    },
    criteria=[
        Criterion(
            "at most 1.05x of the length with cosine decay",
            lambda f: f.steps_ratio("text", OURS),
            at_most=1.05,
            paper="1x or less",
        ),
        Criterion(
            "a final loss of at most 1.01x",
            lambda f: f.final_ratio("text", OURS),
            at_most=1.01,
            paper="1x or less",
        ),
        Criterion(
            "at half the length too: a final loss of at most 1.01x",
            lambda f: f.final_ratio("half", OURS),
            at_most=1.01,
            paper="1x or less",
        ),
        Criterion(
            "not just an average: it ends lower than a moving average of AdamW's weights at a constant rate",
            lambda f: f.final_ratio("text", OURS, against=f"{CONSTANT} + ema"),
            at_most=1.0,
            gain=True,
            control=True,
        ),
        decay_shows("text", CONSTANT),
        decay_shows("half", CONSTANT),
    ],
    trend={
        "half, length": lambda f: f.steps_ratio("half", OURS),
        "moving average, final loss": lambda f: f.final_ratio("text", f"{CONSTANT} + ema"),
    },
    regime=text_regime(
        "28 problems, from logistic regression to GPT-2 of 124M parameters, each with a cosine of its full length",
        "a language model from random weights, long enough for decay to show, as there; no weight decay",
        schedule="cosine to zero after 5 % of warm-up; none, after as long a warm-up",
    ),
    known=(*ON_TEXT, Known("decay", "charlm")),
    minutes=30,
    limits="One small model at two lengths; beta is 0.9 throughout, and the paper tunes it for long training.",
)
