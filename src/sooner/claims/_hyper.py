"""The claim that both step sizes of FedHyper share: what makes up for a learning rate that is too small."""

from __future__ import annotations

from sooner.claims._claim import Claim, Criterion, Measured
from sooner.claims._clusters import HYPER
from sooner.claims._findings import Findings, paired
from sooner.claims._regimes import clients_regime


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
            Criterion(
                "rates matter here: a tenth of the rate ends at least 1.2x as high as the tuned one",
                lambda f: paired(f.baseline("a tenth")["final"]["values"], f.baseline("tuned")["final"]["values"]),
                at_least=1.2,
                gain=True,
                positive=True,
                covers=tuple(HYPER),
            ),
        ],
        regime=clients_regime(
            "FMNIST, CIFAR-10 and text, ten clients of unequal data, 100 rounds, rates off by tenfold",
            "rates that are too small by known factors, as there; four of 16 clients a round",
        ),
        minutes=4,
        limits="16 rounds. Raw inner products, as in the paper, depend on the size of the model.",
    )
