"""AdaBelief is as fast as Adam and generalises like SGD."""

from collections.abc import Callable
from typing import Any

import torch

from sooner.claims._claim import Claim, Criterion, Measurement, Race
from sooner.claims._regimes import ON_TEXT, oracle_shows, text_regime
from sooner.claims._shape import SCALES, at_scales, changes, steps_over
from sooner.update.adabelief import AdaBelief
from sooner.update.adamw import AdamW

OPTIMIZERS: dict[str, Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]] = {
    "adam": lambda params: AdamW(params, lr=1e-3, weight_decay=0.0),
    "adabelief": lambda params: AdaBelief(params, lr=1e-3, rectify=False),
}


def descend(arm: str, slope: float) -> dict[str, Any]:
    """Return the steps to 0.01 on ``slope * |x| + |y|`` from (1, 1): gradients are large or small, but constant."""
    point = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    weights = torch.tensor([slope, 1.0], dtype=torch.float64)
    optimizer = OPTIMIZERS[arm]([point])
    for step in range(1, 5001):
        loss = (weights * point.abs()).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        if float((weights * point.detach().abs()).sum()) <= 0.01 * (1 + slope):
            return {"steps": step}
    return {"steps": None}


CASES = [{"arm": arm, "slope": slope} for slope in (0.1, 1.0, 10.0) for arm in OPTIMIZERS]

CLAIM = Claim(
    part="adabelief",
    paper="adabelief",
    headline="As fast as Adam, with the generalisation of SGD.",
    source="Zhuang et al., 2020, arXiv 2010.07468, title and abstract",
    experiment=(
        "Steps to AdamW's loss on a character GPT at three sizes and two lengths of training; steps and test loss on a "
        "convolutional network; and the mechanism: descent along a slope that is constant, where the belief in the "
        "gradient is perfect."
    ),
    baseline="AdamW, and SGD with momentum on images, tuned with as many trials.",
    experiments={
        "slope": Measurement(descend, CASES, CASES[:2]),
        **at_scales("adamw; adabelief"),
        "digits": Race("adamw; sgd; adabelief(eps=1e-8, rectify=False)", "digits", steps=400),
    },
    criteria=[
        Criterion(
            "as fast as Adam on text: steps to the middle target at most 1.05x of AdamW's (1,000 steps)",
            lambda f: f.steps_ratio("1x, long", "adabelief"),
            at_most=1.05,
        ),
        Criterion(
            "as fast as Adam on images: steps to the middle target at most 1.05x of AdamW's",
            lambda f: f.steps_ratio("digits", "adabelief"),
            at_most=1.05,
        ),
        Criterion(
            "generalises like SGD: test loss on images at most 1.05x of SGD's",
            lambda f: f.final_ratio("digits", "adabelief", against="sgd"),
            at_most=1.05,
        ),
        Criterion(
            "along a constant slope at most 0.7x of Adam's steps, at the same learning rate",
            lambda f: f.paired_ratio("slope", "steps", {"arm": "adabelief"}, {"arm": "adam"}),
            at_most=0.7,
        ),
        oracle_shows("1x, long", "adamw"),
    ],
    trend=steps_over((*SCALES, "digits"), "adabelief"),
    changes=changes("adabelief"),
    regime=text_regime(
        "residual networks on CIFAR, recurrent language models and GANs, 200 passes with rates cut tenfold late",
        "small batches from random weights as there; shorter, and without the late cut",
    ),
    known=ON_TEXT,
    minutes=35,
    limits="Neither GANs, where the paper reports the greatest gains in stability, nor long training are tried.",
)
