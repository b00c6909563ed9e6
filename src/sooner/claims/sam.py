"""Local steps along the gradient uphill keep decentralized models closer together."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._clusters import FEDERATED, GRAPH, RING
from sooner.claims._regimes import clients_regime

UPHILL = f"{RING} + sam"
MIXED = "sgd(momentum=0) + gossip(every=10, mixing_steps=4)"

CLAIM = Claim(
    part="sam",
    paper="dfedsam",
    headline="With sharpness-aware local steps decentralized federated learning is more consistent and more accurate.",
    source="Shi et al., 2023, arXiv 2302.04083, abstract (DFedSAM)",
    experiment=(
        "Eight clients on a ring, digits divided by class (Dirichlet 0.3), ten local steps per round: steps to the "
        "loss that the tuned baseline reaches, the clients' distance from their average at the end, and gradients."
    ),
    baseline="Gossip with plain local steps on the same ring, its learning rate tuned with as many trials.",
    experiments={"ring": GRAPH},
    criteria=[
        Criterion(
            "at most 0.85x of the steps to the middle target",
            lambda f: f.steps_ratio("ring", UPHILL),
            at_most=0.85,
            gain=True,
        ),
        Criterion(
            "at most 0.7x of the consensus distance at the end",
            lambda f: f.communicated("ring", UPHILL, "consensus"),
            at_most=0.7,
        ),
        Criterion(
            "at most as many gradients, of which a step takes two",
            lambda f: f.gradients_ratio("ring", UPHILL),
            at_most=1.0,
            control=True,
        ),
        Criterion(
            "mixing matters here: with averages of all clients it ends at most 0.95x as high as on the ring",
            lambda f: f.final_ratio("ring", FEDERATED),
            at_most=0.95,
            gain=True,
            positive=True,
        ),
    ],
    trend={
        "final loss": lambda f: f.final_ratio("ring", UPHILL),
        "four mixing steps instead, steps": lambda f: f.steps_ratio("ring", MIXED),
        "a server instead, steps": lambda f: f.steps_ratio("ring", FEDERATED),
        "averaged gradients, steps": lambda f: f.steps_ratio("ring", "sgd(momentum=0)"),
    },
    regime=clients_regime(
        "ResNet-18 on CIFAR, 100 clients on rings, grids and random graphs, 500 rounds",
        "unequal classes on a ring, as there; 16 rounds",
    ),
    minutes=4,
    limits="16 rounds; learning rates that suit either method differ, and so do distances for that reason alone.",
)
