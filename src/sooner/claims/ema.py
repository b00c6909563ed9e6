"""An exponential moving average of the weights reaches the target sooner than the weights themselves."""

from sooner.claims._claim import Claim, Criterion, Race
from sooner.claims._regimes import ON_TEXT, text_regime
from sooner.claims._shape import IN_STEPS, steps_over

HALVED = "adamw(lr=log(0.00015, 0.05))"
"""AdamW's tuning range at half of every rate."""

CLAIM = Claim(
    part="ema",
    paper="",
    headline="Averaged weights generalise better than the last iterate and act like a decay of the learning rate.",
    source="Morales-Brotons et al., 2024, arXiv 2411.18704, abstract",
    experiment=(
        "A character GPT is trained at a constant learning rate and evaluated with its own weights and with their "
        "moving average: steps to the loss of the tuned baseline. The same with half of every learning rate, which "
        "would be a simpler explanation."
    ),
    baseline="AdamW at a constant rate, tuned with as many trials.",
    experiments={
        "short": Race(f"adamw; {HALVED}; adamw + ema", "charlm", steps=250),
        "long": Race("adamw; adamw + ema", "charlm", steps=1000),
    },
    criteria=[
        Criterion(
            "steps to the middle target at most 0.95x (1,000 steps)",
            lambda f: f.steps_ratio("long", "adamw + ema"),
            at_most=0.95,
            gain=True,
        ),
        Criterion(
            "loss after 1,000 steps lower",
            lambda f: f.final_ratio("long", "adamw + ema"),
            at_most=1.0,
            gain=True,
        ),
        Criterion(
            "not just smaller steps: at most 0.95x of the steps at halved rates (250 steps)",
            lambda f: f.steps_ratio("short", "adamw + ema", against=HALVED),
            at_most=0.95,
            gain=True,
            control=True,
        ),
    ],
    trend=steps_over(IN_STEPS, "adamw + ema"),
    regime=text_regime(
        "residual networks on CIFAR and ImageNet, constant or decayed rates, hundreds of passes",
        "a constant rate under noise, which averages replace the decay of; a language model, trained shortly",
    ),
    known=ON_TEXT,
    minutes=7,
    limits="One small model; the decay of the average is one of five values.",
)
