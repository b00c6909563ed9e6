"""All clients in every round take fewer rounds, each as long as the slowest of them."""

import math
from typing import Any

from sooner.claims._claim import Claim, Criterion, Measurement
from sooner.claims._clusters import EVERY_STEP, FEDAVG, FEDERATED, clients
from sooner.claims._regimes import clients_regime
from sooner.communication.full import Full
from sooner.communication.sampled import Sampled


def round_seconds(seed: int, workers: int) -> dict[str, Any]:
    """Return the mean seconds of a round of ten steps, of all workers and of a quarter."""
    everyone, quarter = Full(spread=1.0), Sampled(share=0.25, spread=1.0)
    numbers = range(1, 201)
    return {
        "all": everyone.round(1, workers, 10, seed).seconds,
        "quarter": math.fsum(quarter.round(n, workers, 10, seed).seconds for n in numbers) / len(numbers),
    }


CLAIM = Claim(
    part="full",
    paper="",
    headline="With all clients in every round fewer rounds are needed, but each waits for the slowest.",
    source="McMahan et al., 2016, arXiv 1602.05629, section 3; textbook",
    experiment=(
        "16 clients, digits divided by class (Dirichlet 0.3), ten local steps per round, of which all or four take "
        "part: steps to the loss that the tuned baseline reaches. Beside it, seconds of their rounds, where workers "
        "take log-normal times."
    ),
    baseline="FedAvg with four of 16 clients, its learning rate tuned with as many trials.",
    experiments={
        "race": clients(FEDAVG, FEDERATED, EVERY_STEP, "sgd(momentum=0) + silent"),
        "seconds": Measurement(
            round_seconds, [{"seed": s, "workers": 16} for s in range(12)], [{"seed": 0, "workers": 4}]
        ),
    },
    criteria=[
        Criterion(
            "at most 0.9x of the rounds to the middle target",
            lambda f: f.steps_ratio("race", FEDERATED),
            at_most=0.9,
            gain=True,
        ),
        Criterion(
            "a round takes at least 1.5x as long",
            lambda f: f.columns_ratio("seconds", "all", "quarter"),
            at_least=1.5,
            gain=True,
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
    limits="By all clients' work together, all of them are the dearer choice: see the claim on `sampled`.",
)
