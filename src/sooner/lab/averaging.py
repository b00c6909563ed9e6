"""Averages of the weights are better than the last of them, at a constant rate."""

from sooner.lab._criteria import lower_than
from sooner.lab._races import BOWL, IMAGES, OUTLINES, PLAIN, TEXT, WORDS
from sooner.lab._truth import Setting, Truth

TRUTH = Truth(
    name="averaging",
    says="At a constant learning rate the average of the weights is better than the last ones.",
    source="Polyak and Juditsky, 1992, 'Acceleration of stochastic approximation by averaging'; Morales-Brotons "
    "et al., 2024, arXiv 2411.18704, abstract",
    expected="lower at the end, without a limit from the source on networks",
    on={
        "charlm": Setting({"race": TEXT}, [lower_than("race", "adamw + ema", "adamw", 0.98)]),
        "quadratic": Setting({"race": BOWL}, [lower_than("race", f"{PLAIN} + ema", PLAIN, 0.9)]),
        "grammar": Setting({"race": WORDS}, [lower_than("race", "adamw + ema", "adamw", 0.98)]),
        "shapes": Setting({"race": OUTLINES}, [lower_than("race", "sgd + ema", "sgd", 0.98)]),
        "digits": Setting({"race": IMAGES}, [lower_than("race", "sgd + ema", "sgd", 0.98)]),
    },
)
