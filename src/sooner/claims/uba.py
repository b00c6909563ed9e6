"""UBA, with its bend chosen well, beats the usual schedules at a fixed budget."""

from typing import Any

import torch

from sooner.claims._claim import Claim, Criterion, Known, Measurement, Race
from sooner.claims._regimes import ON_TEXT, text_regime
from sooner.claims._shape import CONSTANT, IMAGES_TO_THE_END, TO_THE_END, decay_shows
from sooner.schedule.cosine import Cosine
from sooner.schedule.uba import UBA

IMAGES_CONSTANT = f"sgd + constant(warmup={IMAGES_TO_THE_END // 20})"


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
        "text": Race(f"adamw + cosine; adamw + linear; adamw + uba; {CONSTANT}", "charlm", steps=TO_THE_END),
        "shapes": Race(f"sgd + cosine; sgd + uba; {IMAGES_CONSTANT}", "shapes", steps=IMAGES_TO_THE_END),
    },
    criteria=[
        Criterion(
            "on text at most 0.95x of the length with cosine decay",
            lambda f: f.steps_ratio("text", "adamw + uba"),
            at_most=0.95,
            gain=True,
        ),
        Criterion(
            "on images at most 0.95x of the length with cosine decay",
            lambda f: f.steps_ratio("shapes", "sgd + uba"),
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
        decay_shows("text", CONSTANT),
        decay_shows("shapes", IMAGES_CONSTANT),
    ],
    trend={
        "text, final loss": lambda f: f.final_ratio("text", "adamw + uba"),
        "images, final loss": lambda f: f.final_ratio("shapes", "sgd + uba"),
        "text, against linear": lambda f: f.steps_ratio("text", "adamw + uba", against="adamw + linear"),
    },
    regime=text_regime(
        "residual networks on CIFAR and ImageNet, diffusion, Swin and OLMo models at budgets of 25 to 100 %",
        "long enough for decay to show, on text with AdamW and on images with SGD",
        schedule="cosine, and what is compared with it, after 5 % of warm-up",
    ),
    known=(*ON_TEXT, Known("decay", "charlm")),
    minutes=52,
    limits="Two knobs share the trials that the cosine has for one. One phase only.",
)
