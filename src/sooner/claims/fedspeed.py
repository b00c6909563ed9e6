"""FedSpeed needs fewer rounds than FedAvg."""

from sooner.claims._claim import Claim, Criterion
from sooner.claims._clusters import EVERY_STEP, FEDAVG, FEDSPEED, LOCAL_STEPS, PROXIMAL
from sooner.claims._regimes import clients_regime

CLAIM = Claim(
    part="fedspeed",
    paper="fedspeed",
    headline="FedSpeed takes fewer rounds than FedAvg and its kin, and generalizes better.",
    source="Sun et al., 2023, arXiv 2302.10429, abstract",
    experiment=(
        "16 clients of which four take part in a round, digits divided by class (Dirichlet 0.3), ten local steps: "
        "steps and gradients to the loss that the tuned baseline reaches."
    ),
    baseline="FedAvg, its learning rate tuned with as many trials as those of all others; FedProx beside it.",
    experiments={"race": LOCAL_STEPS},
    criteria=[
        Criterion(
            "at most 0.6x of the steps to the middle target",
            lambda f: f.steps_ratio("race", FEDSPEED),
            at_most=0.6,
            gain=True,
        ),
        Criterion(
            "at most 1.1x of the gradients to it, of which a step takes two",
            lambda f: f.gradients_ratio("race", FEDSPEED),
            at_most=1.1,
        ),
        Criterion(
            "fewer steps than FedProx",
            lambda f: f.steps_ratio("race", FEDSPEED, against=PROXIMAL),
            at_most=1.0,
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
        "final loss": lambda f: f.final_ratio("race", FEDSPEED),
        "FedProx, steps": lambda f: f.steps_ratio("race", PROXIMAL),
        "averages at every step, steps": lambda f: f.steps_ratio("race", EVERY_STEP),
        "float16, steps": lambda f: f.steps_ratio("race", f"{FEDAVG} + fp16"),
    },
    regime=clients_regime(
        "ResNet-18 on CIFAR-10 and Tiny ImageNet, 100 clients, a tenth a round, 1,500 rounds",
        "unequal classes and partial rounds, as there; 48 rounds",
    ),
    minutes=11,
    limits="48 rounds, of which every client sees about twelve.",
)
