"""UBA, with its bend chosen well, beats the usual schedules at a fixed budget."""

from typing import Any

import torch

from sooner.claims._claim import Claim, Criterion, Measurement, Race
from sooner.schedule.cosine import Cosine
from sooner.schedule.uba import UBA


def difference_to_cosine(steps: int) -> dict[str, Any]:
    """Return the largest difference between the factors of UBA at phi = 2 and of the cosine."""
    factors = []
    for make in (lambda o: UBA(o, steps, phi=2.0), lambda o: Cosine(o, steps)):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = make(optimizer)
        rates = []
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        factors.append(rates)
    return {"difference": max(abs(a - b) for a, b in zip(*factors, strict=True))}


CLAIM = Claim(
    part="uba",
    paper="uba-schedule",
    headline="Beats step, cosine, cyclic, REX and budgeted linear schedules from ResNet to OLMo at several budgets.",
    source="Tang et al., 2025, arXiv 2505.24452, abstract",
    experiment=(
        "A character GPT with AdamW and a convolutional network with SGD are trained with cosine, with linear decay "
        "and with UBA, whose bend is tuned along with the learning rate: the length of training that reaches the "
        "cosine's loss. And exactly: UBA at phi = 2 is the cosine."
    ),
    baseline="The same optimizer with cosine decay, and with linear decay, tuned with as many trials.",
    experiments={
        "identity": Measurement(difference_to_cosine, [{"steps": 1000}], [{"steps": 50}]),
        "text": Race("adamw + cosine; adamw + linear; adamw + uba", "charlm", steps=120),
        "digits": Race("sgd + cosine; sgd + uba", "digits", steps=120),
    },
    criteria=[
        Criterion(
            "on text at most 0.95x of the length with cosine decay",
            lambda f: f.steps_ratio("text", "adamw + uba"),
            at_most=0.95,
            gain=True,
        ),
        Criterion(
            "on digits at most 0.95x of the length with cosine decay",
            lambda f: f.steps_ratio("digits", "sgd + uba"),
            at_most=0.95,
            gain=True,
        ),
        Criterion(
            "at phi = 2 it is the cosine, to 1e-12",
            lambda f: f.mean("identity", "difference"),
            at_most=1e-12,
            control=True,
        ),
        Criterion(
            "not just what linear decay gives too: on text at most 1.0x of its length",
            lambda f: f.steps_ratio("text", "adamw + uba", against="adamw + linear"),
            at_most=1.0,
            control=True,
        ),
    ],
    trend={
        "text, final loss": lambda f: f.final_ratio("text", "adamw + uba"),
        "digits, final loss": lambda f: f.final_ratio("digits", "sgd + uba"),
        "text, against linear": lambda f: f.steps_ratio("text", "adamw + uba", against="adamw + linear"),
    },
    minutes=5,
    limits="Two knobs share the trials that the cosine has for one. One phase only.",
)
