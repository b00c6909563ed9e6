"""More mixing steps per round bring workers without a server closer together, at the rate of their graph."""

from typing import Any

import torch

from sooner.claims._claim import Claim, Criterion, Measurement
from sooner.claims._clusters import FEDERATED, GRAPH
from sooner.claims._quadratics import exchange_of
from sooner.claims._regimes import clients_regime
from sooner.communication._outer import Window
from sooner.communication.gossip import Gossip

WORKERS = 16
MIXED = "sgd(momentum=0) + gossip(every=10, mixing_steps=4)"


def contraction(graph: str, mixing_steps: int, rounds: int) -> dict[str, Any]:
    """Return by how much the consensus distance shrinks per round over what the graph's second eigenvalue says."""
    at = torch.arange(WORKERS)
    near = torch.zeros(WORKERS, WORKERS, dtype=torch.float64)
    for away in (1,) if graph == "ring" else (1, 2, 4, 8):
        near[at, (at + away) % WORKERS] = near[(at + away) % WORKERS, at] = 1.0
    degree = float(near.sum(1)[0])  # the same for all
    weights = (near + torch.eye(WORKERS, dtype=torch.float64)) / (degree + 1)
    second = float(torch.linalg.eigvalsh(weights).abs().sort().values[-2])
    outer, exchange = Gossip(every=1, graph=graph, mixing_steps=mixing_steps), exchange_of("dense", WORKERS, 100)
    v = torch.randn(WORKERS, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    distances = []
    for number in range(1, rounds + 1):
        v = outer.step(Window(v, v, {}, exchange, number, number))
        distances.append(float((v - v.mean(0)).square().sum()))
    return {"ratio": distances[-1] / distances[-2] / second ** (2 * mixing_steps)}


CASES = [{"graph": g, "mixing_steps": q, "rounds": 24 // q} for g in ("ring", "exponential") for q in (1, 4)]

CLAIM = Claim(
    part="gossip",
    paper="dfedsam",
    headline="Several gossip steps per round make decentralized models more consistent, and better (DFedSAM-MGS).",
    source="Shi et al., 2023, arXiv 2302.04083, abstract and theorem on 1 / (1 - lambda^Q)^2",
    experiment=(
        "Random vectors of 16 workers are mixed on a ring and on an exponential graph: contraction of their consensus "
        "distance per round. Then eight clients on a ring, digits divided by class (Dirichlet 0.3), ten local steps: "
        "steps to the loss that the tuned baseline reaches with one and with four mixing steps."
    ),
    baseline="Gossip with one mixing step on the same ring, its learning rate tuned with as many trials.",
    experiments={"contraction": Measurement(contraction, CASES, CASES[:1]), "ring": GRAPH},
    criteria=[
        Criterion(
            "contraction at most 1.05x of lambda^(2Q), in every case",
            lambda f: f.largest("contraction", "ratio", "x"),
            at_most=1.05,
            paper="1x",
        ),
        Criterion(
            "and at least 0.95x of it",
            lambda f: f.smallest("contraction", "ratio", "x"),
            at_least=0.95,
            paper="1x",
        ),
        Criterion(
            "with four mixing steps fewer steps to the middle target than with one",
            lambda f: f.steps_ratio("ring", MIXED),
            at_most=1.0,
            gain=True,
        ),
        Criterion(
            "with four mixing steps the consensus distance at the end is at most 0.7x",
            lambda f: f.communicated("ring", MIXED, "consensus"),
            at_most=0.7,
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
        "four mixing steps, bytes to the target": lambda f: f.bytes_ratio("ring", MIXED),
        "a server, steps": lambda f: f.steps_ratio("ring", FEDERATED),
        "averaged gradients, steps": lambda f: f.steps_ratio("ring", "sgd(momentum=0)"),
    },
    regime=clients_regime(
        "ResNet-18 on CIFAR, 100 clients on rings, grids and random graphs, 500 rounds",
        "unequal classes on a ring, as there; 16 rounds",
    ),
    minutes=4,
    limits="Without SAM; by bytes, four mixing steps cost four times as much per round.",
)
