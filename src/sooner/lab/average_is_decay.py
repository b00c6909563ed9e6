"""The moving average of the weights at a constant rate does what decay does."""

from sooner.lab._criteria import ends_like, lower_than
from sooner.lab._races import BOWL_TO_THE_END, CONSTANT, PLAIN, TEXT_TO_THE_END
from sooner.lab._truth import Setting, Truth

TRUTH = Truth(
    name="average_is_decay",
    says="A moving average of the weights at a constant rate ends nearly where decay ends.",
    source="Hägele et al., 2024, arXiv 2405.18392, on weight averaging; Morales-Brotons et al., 2024, arXiv 2411.18704",
    expected="between the constant rate and the decayed one, close to the latter",
    on={
        "charlm": Setting(
            {"race": TEXT_TO_THE_END},
            [
                lower_than("race", f"{CONSTANT} + ema", CONSTANT, 1.0),
                ends_like("race", f"{CONSTANT} + ema", "adamw + cosine", 1.05),
            ],
        ),
        "quadratic": Setting(
            {"race": BOWL_TO_THE_END},
            [
                lower_than("race", f"{PLAIN} + ema", PLAIN, 0.9),
                ends_like("race", f"{PLAIN} + ema", f"{PLAIN} + cosine", 1.3),
            ],
        ),
    },
)
