"""Local steps save bytes: averaging weights now and then does nearly what averaging all gradients does."""

from sooner.lab._races import CLUSTERS
from sooner.lab._truth import Criterion, Setting, Truth

_PLAIN = "sgd(momentum=0.0)"

TRUTH = Truth(
    name="local_steps",
    says="Workers that average their weights every 10 steps reach the same loss with a fraction of the bytes.",
    source="McMahan et al., 2017, arXiv 1602.05629, abstract; Stich, 2018, arXiv 1805.09767, abstract",
    expected="10x to 100x fewer rounds",
    on={
        workload: Setting(
            {"cluster": race},
            [
                Criterion(
                    # whoever takes over 4/3 of the baseline's steps can't reach the middle target within the budget
                    "at most 0.3x of the bytes of dense averaging to the loose target",
                    lambda f: f.bytes_ratio("cluster", f"{_PLAIN} + local_sgd(every=10)", target="loose"),
                    at_most=0.3,
                    gain=True,
                    paper="0.01x to 0.1x",
                ),
                Criterion(
                    "it is the averaging: ends lower than workers that never communicate",
                    lambda f: f.final_ratio("cluster", f"{_PLAIN} + local_sgd(every=10)", against=f"{_PLAIN} + silent"),
                    at_most=0.95,
                    gain=True,
                    control=True,
                ),
            ],
        )
        # on charlm and quadratic all workers draw from one source, and end alike whether they talk or not
        for workload, race in {"digits_federated": CLUSTERS["digits_federated"]}.items()
    },
)
