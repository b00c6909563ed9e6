"""Weight decay decides whether a network that knows its training data by heart understands them."""

from sooner.lab._criteria import sooner_than
from sooner.lab._races import SUMS
from sooner.lab._truth import Setting, Truth

WITHOUT = "adamw(weight_decay=0.0, lr=log(3e-5, 1))"

TRUTH = Truth(
    name="weight_decay",
    says="With weight decay a network that knows its training pairs by heart generalises, much sooner than without.",
    source="Power et al., 2022, arXiv 2201.02177, on data efficiency and regularization",
    expected="the strongest of all interventions in the source; without decay hardly within the budget",
    on={"modular": Setting({"race": SUMS}, [sooner_than("race", "adamw(weight_decay=1.0)", WITHOUT, 0.5)])},
)
