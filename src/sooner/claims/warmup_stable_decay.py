"""A constant rate with a short decay at the end matches the cosine."""

from sooner.claims._claim import Claim, Criterion, Known, Race
from sooner.claims._regimes import ON_TEXT, text_regime
from sooner.claims._shape import CONSTANT, TO_THE_END, decay_shows

OURS = "adamw + warmup_stable_decay"

CLAIM = Claim(
    part="warmup_stable_decay",
    paper="",
    headline="Matches the loss of a cosine schedule of the same length, and lengths can share most of a run.",
    source="Hu et al., 2024, arXiv 2404.06395, section 4; Hägele et al., 2024, arXiv 2405.18392",
    experiment=(
        "A character GPT is trained with cosine decay and with a constant rate that decays over the last fifth: the "
        "length of training that reaches the cosine's loss, and the loss at equal length."
    ),
    baseline="AdamW with cosine decay, both learning rates tuned with as many trials.",
    experiments={"text": Race(f"adamw + cosine; {OURS}; {CONSTANT}", "charlm", steps=TO_THE_END)},
    criteria=[
        Criterion(
            "at most 1.05x of the length with cosine decay",
            lambda f: f.steps_ratio("text", OURS),
            at_most=1.05,
        ),
        Criterion(
            "a final loss of at most 1.01x",
            lambda f: f.final_ratio("text", OURS),
            at_most=1.01,
        ),
        decay_shows("text", CONSTANT),
    ],
    regime=text_regime(
        "language models of 40M to 2.4B parameters on 20 to 40 tokens per parameter, decay over the last tenth",
        "a language model long enough for decay to show, as there",
        schedule="cosine, and what is compared with it, after 5 % of warm-up",
    ),
    known=(*ON_TEXT, Known("decay", "charlm")),
    minutes=30,
    limits="One small model, 2,000 steps; that lengths share most of a run follows from the shape and is not measured.",
)
