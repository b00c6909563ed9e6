"""Under free participation, more workers and more local steps mean fewer rounds."""

from sooner.claims._claim import Claim, Criterion, Measurement
from sooner.claims._clock import FEDAVG, cases, trained
from sooner.claims._regimes import clients_regime

FEW, MANY, LONG = (
    f"afa_cd(every={every}) + anarchic(share={share}, spread=1.0)"
    for every, share in ((5, 0.125), (5, 0.5), (20, 0.125))
)

CLAIM = Claim(
    part="anarchic",
    paper="afl",
    headline="Anarchic federated learning keeps the linear speedup in workers and local steps.",
    source="Yang et al., 2021, arXiv 2108.09875, abstract",
    experiment=(
        "16 clients of log-normal speed that come back when they like (AFA-CD), digits divided by class (Dirichlet "
        "0.3): rounds until a quarter of the answers are wrong, when the server waits for two of them or for eight, "
        "and when they take up to five or up to 20 steps."
    ),
    baseline="The server waits for two clients of up to five steps; learning rates tuned alike on a seed of its own.",
    experiments={
        "clock": Measurement(
            trained,
            [*cases({FEW: 80, MANY: 60, FEDAVG: 30}), *cases({LONG: 40}, every=20)],
            [*cases({FEW: 8, MANY: 2, FEDAVG: 2}, 4, seeds=1), *cases({LONG: 8}, 4, 20, seeds=1)],
        )
    },
    criteria=[
        Criterion(
            "four times as many workers: at most 0.5x of the rounds",
            lambda f: f.paired_ratio("clock", "rounds", {"arm": MANY}, {"arm": FEW}),
            at_most=0.5,
            gain=True,
            paper="0.25x",
        ),
        Criterion(
            "four times as many local steps: at most 0.5x of the rounds",
            lambda f: f.paired_ratio("clock", "rounds", {"arm": LONG}, {"arm": FEW}),
            at_most=0.5,
            gain=True,
            paper="0.25x",
        ),
        Criterion(
            "taking part matters here: all 16 clients take at most 0.6x of the rounds of two",
            lambda f: f.paired_ratio("clock", "rounds", {"arm": FEDAVG}, {"arm": FEW}),
            at_most=0.6,
            gain=True,
            positive=True,
        ),
    ],
    trend={
        "four times as many workers, seconds": lambda f: f.paired_ratio(
            "clock", "seconds", {"arm": MANY}, {"arm": FEW}
        ),
        "four times as many local steps, seconds": lambda f: f.paired_ratio(
            "clock", "seconds", {"arm": LONG}, {"arm": FEW}
        ),
    },
    regime=clients_regime(
        "logistic regression, convolutional and recurrent networks of 10 to 100 clients, hundreds of rounds",
        "clients of unequal speed and classes, as there; tens of rounds",
    ),
    minutes=3,
    limits="The speedup is of a bound for many rounds; here are tens of them.",
)
