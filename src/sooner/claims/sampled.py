"""A quarter of the clients per round does nearly as well as all of them."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._clusters import EVERY_STEP, FEDAVG, FEDERATED, clients
from sooner.claims._findings import times
from sooner.claims._regimes import clients_regime

ONE = f"{FEDERATED} + sampled(share=0.0625)"

CLAIM = Claim(
    part="sampled",
    paper="",
    headline="A tenth of the clients per round balances work and rounds: more add little, far fewer take many rounds.",
    source="McMahan et al., 2016, arXiv 1602.05629, section 3, increasing parallelism",
    experiment=(
        "16 clients, digits divided by class (Dirichlet 0.3), ten local steps per round, of which all, four or one "
        "take part: steps to the loss that the tuned baseline reaches, and steps of all clients together."
    ),
    baseline="All clients in every round; all learning rates tuned with as many trials.",
    experiments={"race": clients(FEDERATED, FEDAVG, ONE, EVERY_STEP, "sgd(momentum=0) + silent")},
    criteria=[
        Criterion(
            "four of 16 take at most 1.5x of the rounds to the middle target",
            lambda f: f.steps_ratio("race", FEDAVG),
            at_most=1.5,
        ),
        Criterion(
            "at most 0.5x of the work of all clients together",
            lambda f: times(f.steps_ratio("race", FEDAVG), 0.25),
            at_most=0.5,
        ),
        Criterion(
            "one of 16 takes at least 1.5x of the rounds of four",
            lambda f: f.steps_ratio("race", ONE, against=FEDAVG),
            at_least=1.5,
            gain=True,
            control=True,
        ),
        Criterion(
            "taking part matters here: clients that never average end at least 1.2x as high",
            lambda f: f.final_ratio("race", "sgd(momentum=0) + silent"),
            at_least=1.2,
            gain=True,
            positive=True,
        ),
    ],
    trend={
        "averages at every step, steps": lambda f: f.steps_ratio("race", EVERY_STEP),
        "no communication, final loss": lambda f: f.final_ratio("race", "sgd(momentum=0) + silent"),
    },
    regime=clients_regime(
        "MNIST, CIFAR-10 and text, 100 clients and more, hundreds of rounds",
        "unequal classes, as there; few clients and 16 rounds",
    ),
    minutes=5,
    limits="16 clients are few; four of them hold most classes.",
)
