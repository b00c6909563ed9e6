"""The learning rate is the setting that matters most: ten times and more from the best one is clearly worse."""

from sooner.lab._criteria import lower_than
from sooner.lab._races import BOWL, HIGH, IMAGES, LOW, OUTLINES, PLAIN, TAIL, TEXT, WORDS
from sooner.lab._truth import Setting, Truth

TRUTH = Truth(
    name="rate_matters",
    says="Learning rates ten times and more from the best one, on either side, are clearly worse than the tuned one.",
    source="Bengio, 2012, arXiv 1206.5533, section 3.1.1",
    expected="the setting that matters most; the source gives no figure",
    on={
        "charlm": Setting(
            {"race": TEXT},
            [lower_than("race", "adamw", LOW, 0.95), lower_than("race", "adamw", HIGH, 0.95)],
        ),
        "digits": Setting(
            {"race": IMAGES},
            [lower_than("race", "sgd", "sgd(lr=0.001)", 0.9), lower_than("race", "sgd", "sgd(lr=3.0)", 0.9)],
        ),
        "shapes": Setting(
            {"race": OUTLINES},
            [lower_than("race", "sgd", "sgd(lr=0.001)", 0.9), lower_than("race", "sgd", "sgd(lr=3.0)", 0.9)],
        ),
        "grammar": Setting(
            {"race": WORDS},
            [lower_than("race", "adamw", "adamw(lr=0.0003)", 0.9), lower_than("race", "adamw", "adamw(lr=0.1)", 0.9)],
        ),
        "zipf": Setting(
            {"race": TAIL},
            [lower_than("race", "adamw", "adamw(lr=0.0001)", 0.9), lower_than("race", "adamw", "adamw(lr=0.03)", 0.9)],
        ),
        "quadratic": Setting(
            {"race": BOWL},
            [
                lower_than("race", PLAIN, "sgd(momentum=0.0, lr=0.01)", 0.9),
                lower_than("race", PLAIN, "sgd(momentum=0.0, lr=1.5)", 0.9),
            ],
        ),
    },
)
