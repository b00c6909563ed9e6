"""Clients that are drawn back to the common weights drift less, and learn sooner together."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._clusters import EVERY_STEP, FEDAVG, LOCAL_STEPS, PROXIMAL
from sooner.claims._regimes import clients_regime

CLAIM = Claim(
    part="proximal",
    paper="",
    headline="On very different data FedProx is more stable than FedAvg, and 22 points more accurate on average.",
    source="Li et al., 2018, arXiv 1812.06127, abstract",
    experiment=(
        "16 clients of which four take part in a round, digits divided by class (Dirichlet 0.3), ten local steps: "
        "steps to the loss that the tuned baseline reaches, and the clients' distance from their average before it."
    ),
    baseline="FedAvg, its learning rate tuned with as many trials as those of all others.",
    experiments={"race": LOCAL_STEPS},
    criteria=[
        Criterion(
            "at most 0.9x of the steps to the middle target",
            lambda f: f.steps_ratio("race", PROXIMAL),
            at_most=0.9,
            gain=True,
        ),
        Criterion(
            "it ends at most 0.95x as high",
            lambda f: f.final_ratio("race", PROXIMAL),
            at_most=0.95,
            gain=True,
        ),
        Criterion(
            "distance before the last average at most 0.8x",
            lambda f: f.communicated("race", PROXIMAL, "drift"),
            at_most=0.8,
        ),
        Criterion(
            "averages matter here: at every step they end at most 0.95x as high as every ten steps",
            lambda f: f.final_ratio("race", EVERY_STEP),
            at_most=0.95,
            gain=True,
            positive=True,
        ),
    ],
    trend={
        "averages at every step, steps": lambda f: f.steps_ratio("race", EVERY_STEP),
        "float16, steps": lambda f: f.steps_ratio("race", f"{FEDAVG} + fp16"),
    },
    regime=clients_regime(
        "MNIST, FEMNIST and text, up to 1,000 clients, ten a round, many of them stragglers, 200 rounds",
        "unequal classes and partial rounds, as there; nobody straggles",
    ),
    minutes=11,
    limits="The paper's figure is with stragglers, whom its FedAvg drops; here all take as many steps.",
)
