"""diffGrad outperforms Adam on convolutional networks."""

from typing import Any

import torch
from torch.nn.utils import parameters_to_vector

from sooner.claims._claim import Claim, Criterion, Measurement, Race
from sooner.claims._regimes import ON_TEXT, images_regime, oracle, oracle_shows
from sooner.update.diffgrad import DiffGrad
from sooner.workloads import digits

CONTROL = "adamw(weight_decay=0.0)"
"""AdamW's tuning range is half of diffGrad's: trial for trial the same Halton points at half its learning rate."""


def friction(seed: int, loss_scale: float, steps: int) -> dict[str, Any]:
    """Return the mean friction coefficient sigmoid(|g_(t-1) - g_t|) over the entries and the last half of the steps."""
    model = digits.model(seed)
    batches = digits.batches(seed + 1, "train")
    optimizer = DiffGrad(model, lr=1e-3)
    before, means = None, []
    for step in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(digits.loss(model, batches[step]) * loss_scale)
        gradient = parameters_to_vector([p.grad for p in model.parameters() if p.grad is not None])
        if before is not None and step >= steps // 2:
            means.append(float(torch.sigmoid((gradient - before).abs()).mean()))
        before = gradient
        optimizer.step()
    return {"friction": sum(means) / len(means)}


CASES = [{"seed": seed, "loss_scale": scale, "steps": 200} for scale in (1.0, 1000.0) for seed in range(5)]

CLAIM = Claim(
    part="diffgrad",
    paper="diffgrad",
    headline="Outperforms SGD with momentum, Adam and others with residual networks on CIFAR-10 and CIFAR-100.",
    source="Dubey et al., 2019, arXiv 1909.11015, abstract",
    experiment=(
        "A residual network learns outlines, and a character GPT text, with AdamW, with AdamW at half "
        "of diffGrad's learning rates, and with diffGrad: steps to AdamW's target. The friction coefficient that is "
        "to slow down where gradients change little is measured as it is, and with the loss times 1000."
    ),
    baseline=(
        "AdamW, tuned with as many trials. diffGrad's range is exactly twice AdamW's, because its coefficient is one "
        "half where gradients are small: trial for trial, AdamW runs at half of its learning rate."
    ),
    experiments={
        "shapes": Race(f"adamw; {CONTROL}; diffgrad; {oracle('adamw')}", "shapes", steps=1000),
        "text": Race("adamw; diffgrad", "charlm", steps=1000),
        "friction": Measurement(friction, CASES, [{"seed": 0, "loss_scale": s, "steps": 4} for s in (1.0, 1000.0)]),
    },
    criteria=[
        Criterion(
            "on images at most 0.95x of AdamW's steps to the middle target",
            lambda f: f.steps_ratio("shapes", "diffgrad"),
            at_most=0.95,
            gain=True,
        ),
        Criterion(
            "on text at most 0.95x of AdamW's steps to the middle target",
            lambda f: f.steps_ratio("text", "diffgrad"),
            at_most=0.95,
            gain=True,
        ),
        Criterion(
            "at most 0.95x of the steps of Adam at half the learning rate, without decay",
            lambda f: f.steps_ratio("shapes", "diffgrad", against=CONTROL),
            at_most=0.95,
            gain=True,
            control=True,
        ),
        Criterion(
            "the friction coefficient is more than the constant one half: its mean is at least 0.51",
            lambda f: f.mean("friction", "friction", loss_scale=1.0),
            at_least=0.51,
            control=True,
        ),
        oracle_shows("shapes", "adamw"),
    ],
    trend={
        "friction coefficient": lambda f: f.mean("friction", "friction", loss_scale=1.0),
        "friction coefficient, loss times 1000": lambda f: f.mean("friction", "friction", loss_scale=1000.0),
        "images, against Adam at half the rate": lambda f: f.steps_ratio("shapes", "diffgrad", against=CONTROL),
    },
    regime=images_regime(
        "ResNet-50 on CIFAR-10 and CIFAR-100, 100 passes, rates cut tenfold at 80",
        "convolutions and Adam's rates, as there; far fewer passes",
        optimizer="AdamW",
        noise="batches of 64 images that never repeat, 4 % of the labels wrong",
    ),
    known=ON_TEXT,
    minutes=20,
    limits="Small networks for hundreds of steps; the paper trains residual networks on CIFAR for 100 passes.",
)
