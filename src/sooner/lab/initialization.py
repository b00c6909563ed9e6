"""The scale of the initial weights decides how soon a network learns."""

from sooner.lab._criteria import changed
from sooner.lab._truth import Setting, Truth
from sooner.lab._variants import SGD_RATES, Arm, arms

TRUTH = Truth(
    name="initialization",
    says="Initial weights of the right scale learn sooner than smaller ones.",
    source="He et al., 2015, arXiv 1502.01852, section 2.2; Glorot and Bengio, 2010, section 4",
    expected="signals fade by the factor to the power of the depth; the smaller start stalls",
    on={
        "digits": Setting(
            {
                "runs": arms(
                    Arm("digits", change, "sgd(lr={rate})", SGD_RATES, 150)
                    for change in ("8 layers", "8 layers from small weights")
                )
            },
            [changed("8 layers", "8 layers from small weights", 0.8)],
            seconds=15,
        ),
        "charlm": Setting(
            {
                "runs": arms(
                    Arm("charlm", change, "adamw(lr={rate})", (0.001, 0.003, 0.01), 400)
                    for change in ("as it is", "weights a tenth as large")
                )
            },
            [changed("as it is", "weights a tenth as large", 0.98)],
            seconds=100,
        ),
    },
)
