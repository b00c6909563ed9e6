"""A server that remembers everybody's last work is as fast, and as good where some come back rarely."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._clock import FEDAVG, on_clock, sooner_than_fedavg
from sooner.claims._regimes import clients_regime
from sooner.claims._shape import FEDAVG_OF_ALL

KEPT = "afa_cs(every=5) + anarchic(share=0.25, spread=1.0)"
FREE = "afa_cd(every=5) + anarchic(share=0.25, spread=1.0)"
ARMS = {FEDAVG: 60, FREE: 120, KEPT: 120}

CLAIM = Claim(
    part="afa_cs",
    paper="afl",
    headline="With a table of last works the bias of free participation is gone (AFA-CS).",
    source="Yang et al., 2021, arXiv 2108.09875, abstract",
    experiment=(
        "16 clients of log-normal speed, so that slow ones come back rarely, digits divided by class (Dirichlet 0.3): "
        "simulated seconds until a quarter of the answers are wrong, and the loss at the end, with FedAvg, which waits "
        "for all, with AFA-CD and with AFA-CS."
    ),
    baseline=FEDAVG_OF_ALL,
    experiments=on_clock(ARMS, seeds=10),
    criteria=[
        sooner_than_fedavg(KEPT),
        Criterion(
            "it ends at most as high as AFA-CD",
            lambda f: f.paired_ratio("clock", "loss", {"arm": KEPT}, {"arm": FREE}),
            at_most=1.0,
            gain=True,
        ),
        Criterion(
            "not waiting shows here: AFA-CD takes at most 0.8x of the seconds of FedAvg",
            lambda f: f.paired_ratio("clock", "seconds", {"arm": FREE}, {"arm": FEDAVG}),
            at_most=0.8,
            gain=True,
            positive=True,
        ),
    ],
    trend={
        "seconds over AFA-CD's": lambda f: f.paired_ratio("clock", "seconds", {"arm": KEPT}, {"arm": FREE}),
        "AFA-CD, seconds over FedAvg's": lambda f: f.paired_ratio("clock", "seconds", {"arm": FREE}, {"arm": FEDAVG}),
    },
    regime=clients_regime(
        "logistic regression, convolutional and recurrent networks of 10 to 100 clients, hundreds of rounds",
        "clients of unequal speed and classes, as there; ten seeds and twice the rounds, since few did not arrive",
    ),
    minutes=3,
    limits="Exchanges take no time on this clock, and slow clients hold no classes of their own.",
)
