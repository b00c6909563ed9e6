"""Error feedback rescues top-k: what is not sent is kept for later."""

from sooner.lab._criteria import ends_like, lower_than
from sooner.lab._races import CLUSTERS
from sooner.lab._truth import Setting, Truth

_PLAIN = "sgd(momentum=0.0)"

TRUTH = Truth(
    name="error_feedback",
    says="Sending the largest 1 % of the gradients loses training, and keeping the rest for later rescues it.",
    source="Stich et al., 2018, arXiv 1809.07599, abstract; Karimireddy et al., 2019, arXiv 1901.09847, abstract",
    expected="with memory the rate of plain SGD; without it no convergence",
    on={
        workload: Setting(
            {"cluster": race},
            [
                lower_than("cluster", f"{_PLAIN} + top_k(ratio=0.01) + ef", f"{_PLAIN} + top_k(ratio=0.01)", 0.95),
                ends_like("cluster", f"{_PLAIN} + top_k(ratio=0.01) + ef", f"{_PLAIN} + dense", 1.5, "1x"),
            ],
        )
        for workload, race in CLUSTERS.items()
    },
)
