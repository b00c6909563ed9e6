"""Learning rates that decay to zero beat those that stay, at equal budget."""

from sooner.lab._criteria import lower_than, sooner_than
from sooner.lab._races import (
    BOWL_TO_THE_END,
    CONSTANT,
    IMAGES_TO_THE_END,
    OUTLINES_TO_THE_END,
    PLAIN,
    TAIL_TO_THE_END,
    TEXT_TO_THE_END,
)
from sooner.lab._truth import Setting, Truth

TRUTH = Truth(
    name="decay",
    says="Decaying the learning rate to zero beats a constant one at equal budget.",
    source="Hägele et al., 2024, arXiv 2405.18392; Defazio et al., 2023, arXiv 2310.07831",
    expected="a lower end of every run; on noisy quadratics without a limit, as the floor of noise falls with the rate",
    on={
        "charlm": Setting(
            {"race": TEXT_TO_THE_END},
            [
                sooner_than("race", "adamw + cosine", CONSTANT, 0.9),
                lower_than("race", "adamw + cosine", CONSTANT, 0.99),
            ],
        ),
        "zipf": Setting(
            {"race": TAIL_TO_THE_END},
            [
                sooner_than("race", "adamw + cosine", "adamw + constant(warmup=15)", 0.9),
                lower_than("race", "adamw + linear", "adamw + constant(warmup=15)", 0.9),
            ],
        ),
        "quadratic": Setting(
            {"race": BOWL_TO_THE_END},
            [
                sooner_than("race", f"{PLAIN} + cosine", PLAIN, 0.9),
                lower_than("race", f"{PLAIN} + linear", PLAIN, 0.9),
            ],
        ),
        "shapes": Setting(
            {"race": OUTLINES_TO_THE_END}, [sooner_than("race", "sgd + cosine", "sgd + constant(warmup=25)", 0.9)]
        ),
        "digits": Setting(
            {"race": IMAGES_TO_THE_END},
            [lower_than("race", "sgd + cosine", "sgd + constant(warmup=20)", 0.98)],
        ),
    },
)
