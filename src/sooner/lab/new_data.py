"""New data are worth more than the same data again and again."""

from sooner.lab._criteria import changed
from sooner.lab._truth import Setting, Truth
from sooner.lab._variants import Arm, arms

_AGAIN = "20 batches again and again"

TRUTH = Truth(
    name="new_data",
    says="Steps on data seen before are worth less than steps on new data.",
    source="Muennighoff et al., 2023, arXiv 2305.16264, abstract",
    expected="up to four passes nearly as good as new data; beyond that worth less and less",
    on={
        "charlm": Setting(
            {
                "runs": arms(
                    Arm("charlm", change, "adamw(lr={rate})", (0.001, 0.003, 0.01), 500)
                    for change in ("as it is", _AGAIN)
                )
            },
            [changed("as it is", _AGAIN, 0.9)],
            seconds=130,
        ),
        "zipf": Setting(
            {
                "runs": arms(
                    Arm("zipf", change, "adamw(lr={rate})", (0.001, 0.003), 200) for change in ("as it is", _AGAIN)
                )
            },
            [changed("as it is", _AGAIN, 0.8)],
            seconds=60,
        ),
        "digits": Setting(
            {
                "runs": arms(
                    Arm("digits", change, "sgd(lr={rate})", (0.03, 0.1, 0.3), 200)
                    for change in ("as it is", "128 images")
                )
            },
            [changed("as it is", "128 images", 0.7)],
            seconds=20,
        ),
    },
)
