"""Residual connections let networks learn that are too deep without them."""

from sooner.lab._criteria import changed
from sooner.lab._truth import Setting, Truth
from sooner.lab._variants import SGD_RATES, Arm, arms

TRUTH = Truth(
    name="residual",
    says="Residual connections let a network of 30 layers learn that does not without them.",
    source="He et al., 2015, arXiv 1512.03385, section 4",
    expected="the plain network's training error is higher the deeper it is; the residual one's is not",
    on={
        "digits": Setting(
            {
                "runs": arms(
                    Arm("digits", change, "sgd(lr={rate})", (0.003, 0.01, *SGD_RATES), 200)
                    for change in ("30 residual layers", "30 layers")
                )
            },
            [changed("30 residual layers", "30 layers", 0.8)],
            seconds=60,
        )
    },
)
