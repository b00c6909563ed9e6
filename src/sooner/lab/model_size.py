"""Larger models have a lower loss after as many steps."""

from sooner.lab._criteria import changed
from sooner.lab._truth import Setting, Truth
from sooner.lab._variants import Arm, arms

TRUTH = Truth(
    name="model_size",
    says="A model with more parameters has a lower loss after as many steps.",
    source="Kaplan et al., 2020, arXiv 2001.08361, sections 3.2 and 4.1",
    expected="lower by (N1 / N2) to the power 0.076 where data do not run out: 0.90x for four times the parameters",
    on={
        "charlm": Setting(
            {
                "runs": arms(
                    Arm("charlm", change, "adamw(lr={rate})", (0.001, 0.003, 0.01), 600)
                    for change in ("width 32", "as it is", "width 128")
                )
            },
            [
                changed("as it is", "width 32", 0.98, paper="0.91x"),
                changed("width 128", "width 32", 0.96, paper="0.82x"),
            ],
            seconds=300,
        )
    },
)
