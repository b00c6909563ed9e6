"""Momentum beats none where noise is small: on full batches and large ones."""

from sooner.lab._criteria import changed, lower_than
from sooner.lab._races import OUTLINES, TEXT
from sooner.lab._truth import Setting, Truth
from sooner.lab._variants import Arm, arms

_WITH, _WITHOUT = "sgd(lr={rate})", "sgd(lr={rate}, momentum=0.0)"
_RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 1.9)

TRUTH = Truth(
    name="momentum",
    says="Momentum reaches a loss in fewer steps than plain gradient descent where batches are large.",
    source="Polyak, 1964; Shallue et al., 2019, arXiv 1811.03600, section 4.3",
    expected="on quadratics the square root of the condition number; on networks clear at large batches only",
    on={
        "quadratic": Setting(
            {"runs": arms(Arm("quadratic", "without noise", r, _RATES, 600, 0.001) for r in (_WITH, _WITHOUT))},
            [changed(_WITH, _WITHOUT, 0.6, "reached", by="recipe")],
            seconds=40,
        ),
        "digits": Setting(
            {
                "runs": arms(
                    Arm("digits", "batches of 1024 images, without normalization", r, _RATES, 60, 0.2)
                    for r in (_WITH, _WITHOUT)
                )
            },
            [changed(_WITH, _WITHOUT, 0.9, "reached", by="recipe")],
            seconds=60,
        ),
        "shapes": Setting({"race": OUTLINES}, [lower_than("race", "sgd", "sgd(momentum=0.0)", 0.98)]),
        "charlm": Setting({"race": TEXT}, [lower_than("race", "sgd", "sgd(momentum=0.0)", 0.98)]),
    },
)
