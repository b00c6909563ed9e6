"""The races of simulated workers that several claims share, and what they have in common.

All claims race these recipes by the same rules on the same seeds, so that each is run once.
"""

from __future__ import annotations

from sooner.claims._claim import Race

WINDOW = 12
"""Steps between two averages."""

FP16, LOCAL, SNOO, SILENT, DILOCO = (
    f"adamw + {part}"
    for part in (
        "fp16",
        f"local_sgd(every={WINDOW})",
        f"snoo(every={WINDOW})",
        "silent",
        f"diloco(every={WINDOW})",
    )
)
ARMS = f"adamw; {FP16}; {LOCAL}; {SNOO}; {SILENT}"
"""What every outer optimizer has to beat: averaged gradients, their halves, averaged weights, momentum, nothing."""

FEDERATED = "sgd(momentum=0) + local_sgd(every=10)"
SAMPLED = "sampled(share=0.25)"
FEDAVG = f"{FEDERATED} + {SAMPLED}"
EVERY_STEP = f"sgd(momentum=0) + {SAMPLED}"
RING = "sgd(momentum=0) + gossip(every=10)"


def workers(*recipes: str, count: int = 4, steps: int | None = None) -> Race:
    """Return a race of workers with the same data."""
    return Race("; ".join(recipes), "text_workers", steps, workers=count, tune=3)


def clients(*recipes: str, task: str = "digits_clients", count: int = 16, steps: int | None = None) -> Race:
    """Return a race of clients that have different data."""
    return Race("; ".join(recipes), task, steps, workers=count, tune=3)


LOCAL_SGD = f"sgd + local_sgd(every={WINDOW})"

CODECS = workers("adamw", FP16, LOCAL, "adamw + bf16", "adamw + int8(block=256)", SILENT)
OUTER = workers(ARMS, DILOCO)
MOMENTUM = workers(
    "sgd",
    "sgd + fp16",
    LOCAL_SGD,
    "sgd + top_k(ratio=0.001) + ef",
    "sgd(momentum=0) + dgc(ratio=0.001)",
    "sgd + powersgd(rank=2) + ef",
    "sgd + powersgd(rank=2)",
    count=2,
    steps=2400,
)
GRAPH = clients(
    RING, f"{RING} + sam", "sgd(momentum=0) + gossip(every=10, mixing_steps=4)", FEDERATED, "sgd(momentum=0)", count=8
)
PROXIMAL = f"{FEDERATED} + proximal + {SAMPLED}"
FEDSPEED = f"{FEDERATED} + fedspeed + {SAMPLED}"
LOCAL_STEPS = clients(FEDAVG, EVERY_STEP, f"{FEDAVG} + fp16", PROXIMAL, FEDSPEED, steps=480)


def hyper(rate: float | None) -> Race:
    """Return the race of FedHyper from this learning rate, None for tuned ones."""
    sgd = "sgd(momentum=0)" if rate is None else f"sgd(lr={rate}, momentum=0)"
    return clients(
        f"{sgd} + local_sgd(every=10) + {SAMPLED}",
        f"{sgd} + fedhyper(every=10, mode='G') + {SAMPLED}",
        f"{sgd} + local_sgd(every=10) + fedhyper_clients(mode='CL') + {SAMPLED}",
    )


HYPER = {"a tenth": hyper(0.07), "a third": hyper(0.2), "tuned": hyper(None)}
"""Beside the tuned rate, a tenth and a third of about what FedAvg is tuned to here."""
