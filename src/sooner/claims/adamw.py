"""Adam reaches the loss of a tuned SGD with momentum on a Transformer in far fewer steps."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._regimes import ON_TEXT, text_regime
from sooner.claims._shape import IN_STEPS, at_horizons, steps_over

CLAIM = Claim(
    part="adamw",
    paper="",
    headline="On Transformer language models SGD with momentum, however well tuned, stays far behind Adam.",
    source="Zhang et al., 2020, arXiv 1912.03194; Kunstner et al., 2023, arXiv 2304.13960",
    experiment=(
        "A character GPT is trained with SGD with momentum and with AdamW: steps to the loss that the tuned "
        "SGD reaches, "
        "for two lengths of training, and the loss after the same number of steps."
    ),
    baseline="SGD with momentum 0.9, its learning rate tuned with as many trials as AdamW's.",
    experiments=at_horizons("sgd; adamw"),
    criteria=[
        Criterion(
            "steps to the middle target of SGD at most 0.7x (1,000 steps)",
            lambda f: f.steps_ratio("long", "adamw"),
            at_most=0.7,
            gain=True,
        ),
        Criterion(
            "loss after 1,000 steps lower than SGD's",
            lambda f: f.final_ratio("long", "adamw"),
            at_most=1.0,
            gain=True,
        ),
    ],
    trend=steps_over(IN_STEPS, "adamw"),
    regime=text_regime(
        "BERT and GPT-2 pre-training; WikiText and Penn Treebank with small Transformers",
        "a Transformer on text from random weights, as there; characters have a lighter tail than words",
    ),
    known=ON_TEXT,
    minutes=6,
    limits="One small model, constant learning rates; both kinds of momentum are fixed at 0.9.",
)
