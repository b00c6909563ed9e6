"""Clients that come back when they like, with as many steps as they like, get there in less time."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._clock import FEDAVG, on_clock, sooner_than_fedavg
from sooner.claims._regimes import clients_regime
from sooner.claims._shape import FEDAVG_OF_ALL

FREE = "afa_cd(every=5) + anarchic(share=0.25, spread=1.0)"
RAW = "local_sgd(every=5) + anarchic(share=0.25, spread=1.0, oldest=0)"
ARMS = {FEDAVG: 30, RAW: 60, FREE: 60}

CLAIM = Claim(
    part="afa_cd",
    paper="afl",
    headline="Free participation and free local effort keep the best known federated rates (AFA-CD).",
    source="Yang et al., 2021, arXiv 2108.09875, abstract",
    experiment=(
        "16 clients of log-normal speed, digits divided by class (Dirichlet 0.3): simulated seconds until a quarter of "
        "the answers are wrong, with FedAvg, which waits for all, with a random quarter that is waited for and takes "
        "random numbers of steps, and with AFA-CD."
    ),
    baseline=FEDAVG_OF_ALL,
    experiments=on_clock(ARMS),
    criteria=[
        sooner_than_fedavg(FREE),
        Criterion(
            "at most 1.0x of the seconds of averages without the division by the number of steps, which wait",
            lambda f: f.paired_ratio("clock", "seconds", {"arm": FREE}, {"arm": RAW}),
            at_most=1.0,
            gain=True,
            control=True,
        ),
        Criterion(
            "the clock of the run is the one that is read: at most 1e-6 off",
            lambda f: f.largest("clock", "clock", "x"),
            at_most=1.000001,
            control=True,
        ),
        Criterion(
            "taking part matters here: all clients in every round take at most 0.9x of the rounds of a quarter",
            lambda f: f.paired_ratio("clock", "rounds", {"arm": FEDAVG}, {"arm": FREE}),
            at_most=0.9,
            gain=True,
            positive=True,
        ),
    ],
    trend={
        "rounds over FedAvg's": lambda f: f.paired_ratio("clock", "rounds", {"arm": FREE}, {"arm": FEDAVG}),
    },
    regime=clients_regime(
        "logistic regression, convolutional and recurrent networks of 10 to 100 clients, hundreds of rounds",
        "clients of unequal speed and classes, as there",
    ),
    minutes=2,
    limits="Exchanges take no time on this clock, and nobody is ever away.",
)
