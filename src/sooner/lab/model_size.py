"""Larger models have a lower loss after as many steps."""

from sooner.lab._criteria import changed
from sooner.lab._truth import Setting, Truth
from sooner.lab._variants import Arm, arms

_SMALL, _LARGE = "a quarter of the parameters", "four times the parameters"

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
                    for change in (_SMALL, "as it is", _LARGE)
                )
            },
            [changed("as it is", _SMALL, 0.98, paper="0.90x"), changed(_LARGE, _SMALL, 0.96, paper="0.81x")],
            seconds=330,
        ),
        "shapes": Setting(
            {
                "runs": arms(
                    Arm("shapes", change, "sgd(lr={rate})", (0.03, 0.1, 0.3), 400) for change in (_SMALL, "as it is")
                )
            },
            [changed("as it is", _SMALL, 0.95)],
            seconds=100,
        ),
    },
)
