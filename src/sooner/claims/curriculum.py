"""Easy examples first take away some of the harm that different data do."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._clusters import EVERY_STEP, FEDAVG, FEDERATED, clients
from sooner.claims._regimes import clients_regime

EASY, RANDOM, HARD, BOTH = (
    f"{FEDERATED} + curriculum(share=0.25, {order})"
    for order in ("samples='easy'", "samples='random'", "samples='hard'", "samples='easy', clients='easy'")
)

CLAIM = Claim(
    part="curriculum",
    paper="fl-curricula",
    headline="Ordered learning, easy to hard, removes much of the harm of non-identical data; clients in order, more.",
    source="Vahidian et al., 2022, arXiv 2212.12712, abstract",
    experiment=(
        "16 clients of which four take part in a round, digits divided by class (Dirichlet 0.1) with a tenth of the "
        "labels wrong, ten local steps, the same number for everybody: steps to the loss that the tuned baseline "
        "reaches when examples are opened from easy to hard, at random, from hard to easy, and easy clients first."
    ),
    baseline="FedAvg with all examples; learning rates, and the curricula's start and end, tuned with as many trials.",
    experiments={"race": clients(FEDAVG, EASY, RANDOM, HARD, BOTH, EVERY_STEP, task="digits_clients_noisy")},
    criteria=[
        Criterion(
            "easy first takes at most 0.85x of the steps to the middle target",
            lambda f: f.steps_ratio("race", EASY),
            at_most=0.85,
            gain=True,
        ),
        Criterion(
            "easy clients first too: at most 0.95x of that",
            lambda f: f.steps_ratio("race", BOTH, against=EASY),
            at_most=0.95,
            gain=True,
        ),
        Criterion(
            "it is the order: fewer steps than with as many random examples",
            lambda f: f.steps_ratio("race", EASY, against=RANDOM),
            at_most=1.0,
            gain=True,
            control=True,
        ),
        Criterion(
            "hard first takes more steps than random examples",
            lambda f: f.steps_ratio("race", HARD, against=RANDOM),
            at_least=1.0,
            gain=True,
            control=True,
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
        "hard first, steps": lambda f: f.steps_ratio("race", HARD),
        "easy first, final loss": lambda f: f.final_ratio("race", EASY),
        "averages at every step, steps": lambda f: f.steps_ratio("race", EVERY_STEP),
    },
    regime=clients_regime(
        "LeNet and ResNet on CIFAR, 100 clients, a tenth a round, 100 rounds, with noisy labels too",
        "unequal classes and wrong labels, as there; 16 rounds",
        noise="a tenth of the labels wrong",
    ),
    minutes=5,
    limits="That the gain grows with the differences between clients is not tested: there is one division of the data.",
)
