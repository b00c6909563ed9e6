"""A pretrained start beats random weights where there are few data."""

from sooner.lab._criteria import changed
from sooner.lab._truth import Setting, Truth
from sooner.lab._variants import Arm, arms

TRUTH = Truth(
    name="pretrained",
    says="A pretrained network learns from few data what one from random weights does not.",
    source="Howard and Ruder, 2018, arXiv 1801.06146, abstract",
    expected="as good as from scratch on a hundred times as many examples",
    on={
        "finetune": Setting(
            {
                "runs": arms(
                    Arm("finetune", change, "adamw(lr={rate})", (0.0003, 0.001, 0.003), 200)
                    for change in ("as it is", "from scratch")
                )
            },
            [changed("as it is", "from scratch", 0.5)],
            seconds=180,
        ),
    },
)
