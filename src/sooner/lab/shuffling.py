"""Examples must come in a shuffled order: one class after the other is forgotten."""

from sooner.lab._criteria import changed
from sooner.lab._truth import Setting, Truth
from sooner.lab._variants import SGD_RATES, Arm, arms

TRUTH = Truth(
    name="shuffling",
    says="Training on shuffled examples ends far lower than on one class after the other.",
    source="LeCun et al., 1998, 'Efficient BackProp', section 4.2",
    expected="consecutive examples should hardly ever be of one class; the source gives no figure",
    on={
        "digits": Setting(
            {
                "runs": arms(
                    Arm("digits", change, "sgd(lr={rate})", SGD_RATES, 200)
                    for change in ("as it is", "sorted by class")
                )
            },
            [changed("as it is", "sorted by class", 0.5)],
            seconds=25,
        )
    },
)
