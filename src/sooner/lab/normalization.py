"""Normalization lets networks learn faster."""

from sooner.lab._criteria import changed
from sooner.lab._truth import Setting, Truth
from sooner.lab._variants import SGD_RATES, Arm, arms

TRUTH = Truth(
    name="normalization",
    says="The same network learns faster with normalization than without it.",
    source="Ioffe and Szegedy, 2015, arXiv 1502.03167, abstract; Xiong et al., 2020, arXiv 2002.04745",
    expected="0.07x of the steps for images; the sources give no figure for text",
    on={
        "digits": Setting(
            {
                "runs": arms(
                    Arm("digits", change, "sgd(lr={rate})", SGD_RATES, 150, 0.2)
                    for change in ("as it is", "without normalization")
                )
            },
            [changed("as it is", "without normalization", 0.7, "reached", paper="0.07x")],
            seconds=25,
        ),
        "charlm": Setting(
            {
                "runs": arms(
                    Arm("charlm", change, "adamw(lr={rate})", (0.001, 0.003, 0.01), 500)
                    for change in ("as it is", "no layer normalization")
                )
            },
            [changed("as it is", "no layer normalization", 0.97)],
            seconds=130,
        ),
    },
)
