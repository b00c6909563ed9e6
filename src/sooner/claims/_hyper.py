"""The claim that both step sizes of FedHyper share: what makes up for a learning rate that is too small."""

from __future__ import annotations

from sooner.claims._claim import Claim, Criterion, Measured
from sooner.claims._clusters import HYPER
from sooner.claims._findings import Findings


def claim(part: str) -> Claim:
    """Return the claim of a part, which races in all experiments beside the other one."""

    def ratio(f: Findings, race: str) -> Measured:
        (recipe,) = [row["recipe"] for row in f.found[race]["contenders"] if f"{part}(" in row["recipe"]]
        return f.steps_ratio(race, recipe)

    return Claim(
        part=part,
        paper="fedhyper",
        headline="FedHyper converges 1.1x to 3x as fast, most where the learning rate was badly chosen.",
        source="Wang et al., 2023, arXiv 2310.03156, abstract",
        experiment=(
            "16 clients of which four take part in a round, digits divided by class (Dirichlet 0.3), ten local steps, "
            "from a tenth and a third of about the best learning rate, and from tuned ones: steps to the loss that the "
            "baseline of the same learning rate reaches."
        ),
        baseline="FedAvg at the same learning rate, or tuned with as many trials.",
        experiments=dict(HYPER),
        criteria=[
            Criterion(
                "from a tenth at most 0.6x of the steps to the middle target",
                lambda f: ratio(f, "a tenth"),
                at_most=0.6,
                gain=True,
                paper="0.33x to 0.91x",
            ),
            Criterion(
                "from a third at most 0.6x too",
                lambda f: ratio(f, "a third"),
                at_most=0.6,
                gain=True,
                paper="0.33x to 0.91x",
            ),
            Criterion("no harm where both are tuned: at most 1.05x", lambda f: ratio(f, "tuned"), at_most=1.05),
        ],
        minutes=4,
        limits="16 rounds. Raw inner products, as in the paper, depend on the size of the model.",
    )
