"""A power-function average of the weights needs no memory tuned to the length of the run."""

from sooner.claims._claim import Claim, Criterion, Race
from sooner.claims._regimes import ON_TEXT, text_regime
from sooner.claims._shape import IN_STEPS, steps_over

FIXED = "adamw + ema(decay=0.99)"
"""An exponential average whose memory suits one length."""

CLAIM = Claim(
    part="power_ema",
    paper="",
    headline="An average that spans a fixed share of the training serves runs of any length with one setting.",
    source="Karras et al., 2024, arXiv 2312.02696, section 3",
    experiment=(
        "A character GPT is trained at a constant learning rate for 250 and for 1,000 steps and evaluated with its own "
        "weights, with an exponential average of one memory, and with a power-function average of one width: steps to "
        "the loss of the tuned baseline."
    ),
    baseline="AdamW at a constant rate, tuned with as many trials.",
    experiments={
        "short": Race(f"adamw; {FIXED}; adamw + power_ema(width=0.1)", "charlm", steps=250),
        "long": Race(f"adamw; {FIXED}; adamw + power_ema(width=0.1)", "charlm", steps=1000),
    },
    criteria=[
        Criterion(
            "steps to the middle target at most 0.95x (1,000 steps)",
            lambda f: f.steps_ratio("long", "adamw + power_ema(width=0.1)"),
            at_most=0.95,
            gain=True,
        ),
        Criterion(
            "no worse than the fixed memory in the long run: at most 1.0x of its final loss (1,000 steps)",
            lambda f: f.final_ratio("long", "adamw + power_ema(width=0.1)", against=FIXED),
            at_most=1.0,
        ),
        Criterion(
            "one width for both lengths: at most 1.0x of the fixed memory's steps (250 steps)",
            lambda f: f.steps_ratio("short", "adamw + power_ema(width=0.1)", against=FIXED),
            at_most=1.0,
        ),
        Criterion(
            "the control: the fixed memory lowers the loss after 1,000 steps",
            lambda f: f.final_ratio("long", FIXED),
            at_most=1.0,
            control=True,
        ),
    ],
    trend=steps_over(IN_STEPS, "adamw + power_ema(width=0.1)"),
    regime=text_regime(
        "diffusion models on images, rates that fall with the square root of the steps, hundreds of thousands of them",
        "averages of noise at a rate that does not decay to zero; a language model, trained shortly",
    ),
    known=ON_TEXT,
    minutes=9,
    limits="One small model, two lengths a factor of four apart, one width and one decay.",
)
