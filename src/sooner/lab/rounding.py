"""Weights in bfloat16 without care lose small updates; rounding at random keeps them."""

from sooner.lab._criteria import ends_like, lower_than
from sooner.lab._races import IMAGES, ROUNDED, SMALL, TEXT
from sooner.lab._truth import Criterion, Setting, Truth


def _criteria(plain: str, worse: float) -> list[Criterion]:
    nearest, at_random = f"{plain} + {ROUNDED}", f"{plain} + {ROUNDED}(how='stochastic')"
    return [
        lower_than("race", plain, nearest, worse),
        lower_than("race", at_random, nearest, worse),
        ends_like("race", at_random, plain, 1.1),
    ]


TRUTH = Truth(
    name="rounding",
    says="Weights kept in bfloat16 lose small updates where they are rounded to the nearest, and not at random.",
    source="Zamirai et al., 2020, arXiv 2010.06192, sections 3 and 4",
    expected="rounding to the nearest stops training; rounding at random follows 32 bits within noise",
    on={
        "charlm": Setting({"race": TEXT}, _criteria(SMALL, 0.95)),
        "digits": Setting({"race": IMAGES}, _criteria("sgd(lr=0.001)", 0.95)),
    },
)
