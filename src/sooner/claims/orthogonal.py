"""Orthogonal initial weights make the learning time of deep networks independent of depth."""

from typing import Any

import torch
from torch import Tensor, nn

from sooner import loop, workloads
from sooner.claims._claim import Claim, Criterion, Measurement, Race
from sooner.claims._regimes import images_regime, oracle, oracle_shows
from sooner.foundation.seeded import seeded
from sooner.model.orthogonal import Orthogonal

LINEAR = "deep linear"
THEORY = "two layers"
TANH = "thirty tanh layers"
GPT = "normalised and residual"
WIDTH, OUT = 32, 8
RATES = (0.1, 0.2, 0.4, 0.8)
"""Learning rates times depth; every run takes the best of them."""


def linear(init: str, depth: int, seed: int, steps: int) -> dict[str, Any]:
    """Return the fewest gradient steps to 1 % of the initial loss over `RATES`; None where all of them miss it.

    A linear network of `depth` layers learns a fixed map from 32 to 8 numbers, its inputs white: the loss is
    ``1/2 ||W_depth ... W_1 - target||^2``, in float64.
    """
    taken = [_steps_to(init, depth, seed, rate / depth, steps) for rate in RATES]
    return {"steps": min((n for n in taken if n is not None), default=None)}


def _steps_to(init: str, depth: int, seed: int, lr: float, steps: int) -> int | None:
    with seeded(seed):
        target = _target()
        net = nn.Sequential(*(nn.Linear(WIDTH, OUT if i == depth - 1 else WIDTH, bias=False) for i in range(depth)))
        net.double()
        if init == "orthogonal":
            Orthogonal(net, gain="linear")
        else:
            for layer in net:
                nn.init.normal_(layer.weight, std=WIDTH**-0.5)  # type: ignore[arg-type]
    weights = list(net.parameters())
    first = None
    for step in range(steps + 1):
        product: Tensor = weights[0]
        for w in weights[1:]:
            product = w @ product
        loss = 0.5 * (product - target).square().sum()
        now = loss.item()
        first = now if first is None else first
        if not now < 1e6 * first:
            return None
        if now <= 0.01 * first:
            return step
        with torch.no_grad():
            for w, g in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                w -= lr * g  # type: ignore[misc]
    return None


def _target() -> Tensor:
    """Return a map with singular values from 0.5 to 1.5 ``[8, 32]``.

    Not a square one: half of these have the sign of their determinant against them, and no path without a barrier.
    """
    u = nn.init.orthogonal_(torch.empty(OUT, OUT, dtype=torch.float64))
    v = nn.init.orthogonal_(torch.empty(OUT, WIDTH, dtype=torch.float64))
    return u @ (torch.linspace(0.5, 1.5, OUT, dtype=torch.float64)[:, None] * v)


def theory(seed: int, lr: float, time: float) -> dict[str, Any]:
    """Return the largest distance of the strengths of eight modes from their closed form, over all steps to `time`.

    With ``W_2 W_1`` balanced, aligned and of strength u0: ``u(t) = s e^(2st) / (e^(2st) - 1 + s / u0)``, t = lr * step.
    """
    with seeded(seed):
        target = _target()
    u, s, vh = torch.linalg.svd(target, full_matrices=False)
    start = 1e-3
    first, second = start**0.5 * vh, start**0.5 * u  # [8, 32], [8, 8]
    worst = 0.0
    for step in range(1, round(time / lr) + 1):
        slope = second @ first - target
        first, second = first - lr * second.T @ slope, second - lr * slope @ first.T
        growth = torch.exp(2 * s * lr * step)
        expected = s * growth / (growth - 1 + s / start)
        strength = (u.T @ second @ first @ vh.T).diagonal()
        worst = max(worst, float((strength - expected).abs().max()))
    return {"distance": worst}


def residual(init: str, seed: int, steps: int, trials: int) -> dict[str, Any]:
    """Return the lowest loss of a small GPT over the first `trials` of three learning rates of AdamW."""
    recipes = [f"{init}adamw(lr={lr})" for lr in (3e-3, 1e-3, 1e-2)[:trials]]
    task = workloads.find("charlm")
    return {"loss": min(loop.train(task, one, seed, steps, evaluate_at=[steps]).metrics[-1]["loss"] for one in recipes)}


RESIDUAL = [
    {"init": init, "seed": seed, "steps": 120, "trials": 3} for init in ("", "orthogonal + ") for seed in range(4)
]

CASES = [
    {"init": init, "depth": depth, "seed": seed, "steps": 300}
    for init in ("orthogonal", "gaussian")
    for depth in (3, 10, 30, 100)
    for seed in range(6)
]
SMALL = [
    {"init": init, "depth": depth, "seed": 0, "steps": 12}
    for init in ("orthogonal", "gaussian")
    for depth in (3, 10, 30, 100)
]

CLAIM = Claim(
    part="orthogonal",
    paper="saxe-orthogonal",
    headline=(
        "Deep linear networks with orthogonal initial weights learn in a time that does not depend on depth; with "
        "scaled Gaussian weights it grows. The same helps deep nonlinear networks."
    ),
    source="Saxe et al., 2013, arXiv 1312.6120, sections 2 and 3",
    experiment=(
        "Linear networks of 3 to 100 layers learn a fixed map by full gradient descent, from orthogonal and from "
        "Gaussian weights, each at the best of four learning rates. Thirty tanh layers without normalisation read "
        "digits by SGD, from orthogonal and from Glorot's weights. A small GPT, normalised and residual, shows where "
        "nothing is to be gained. Strengths of the modes of two layers are compared with the paper's closed form."
    ),
    baseline="Gaussian weights of variance 1 / width; Glorot's weights with SGD tuned as often as the contender.",
    experiments={
        LINEAR: Measurement(linear, CASES, SMALL),
        THEORY: Measurement(theory, [{"seed": 0, "lr": 1e-3, "time": 8.0}], [{"seed": 0, "lr": 0.1, "time": 1.0}]),
        TANH: Race(f"sgd; orthogonal + sgd; {oracle('sgd')}", "digits_deep", tune=5),
        GPT: Measurement(residual, RESIDUAL, [{**case, "steps": 1, "trials": 1} for case in RESIDUAL[::4]]),
    },
    criteria=[
        Criterion(
            "from orthogonal weights 100 linear layers take at most 2x of the steps of 3 layers",
            lambda f: f.paired_ratio(
                LINEAR, "steps", {"init": "orthogonal", "depth": 100}, {"init": "orthogonal", "depth": 3}
            ),
            at_most=2.0,
            paper="independent of depth",
        ),
        Criterion(
            "30 linear layers take at least 3x of the steps from Gaussian weights",
            lambda f: f.paired_ratio(
                LINEAR, "steps", {"init": "gaussian", "depth": 30}, {"init": "orthogonal", "depth": 30}
            ),
            at_least=3.0,
            gain=True,
        ),
        Criterion(
            "30 tanh layers take at most 0.5x of the steps from Glorot's weights to the middle target",
            lambda f: f.steps_ratio(TANH, "orthogonal + sgd"),
            at_most=0.5,
            gain=True,
        ),
        Criterion(
            "the modes of two linear layers are within 0.005 of the paper's closed form at every step",
            lambda f: f.largest(THEORY, "distance"),
            at_most=5e-3,
        ),
        Criterion(
            "3 linear layers can be learned from Gaussian weights too: at most 2x of the steps from orthogonal ones",
            lambda f: f.paired_ratio(
                LINEAR, "steps", {"init": "gaussian", "depth": 3}, {"init": "orthogonal", "depth": 3}
            ),
            at_most=2.0,
            control=True,
        ),
        oracle_shows(TANH, "sgd"),
    ],
    trend={
        "orthogonal, 10 layers over 3": lambda f: f.paired_ratio(
            LINEAR, "steps", {"init": "orthogonal", "depth": 10}, {"init": "orthogonal", "depth": 3}
        ),
        "orthogonal, 30 layers over 3": lambda f: f.paired_ratio(
            LINEAR, "steps", {"init": "orthogonal", "depth": 30}, {"init": "orthogonal", "depth": 3}
        ),
        "Gaussian over orthogonal, 10 layers": lambda f: f.paired_ratio(
            LINEAR, "steps", {"init": "gaussian", "depth": 10}, {"init": "orthogonal", "depth": 10}
        ),
        "GPT, normalised and residual, loss after 120 steps": lambda f: f.paired_ratio(
            GPT, "loss", {"init": "orthogonal + "}, {"init": ""}
        ),
    },
    regime=images_regime(
        "deep linear networks by full gradients; deep tanh networks on MNIST",
        "linear networks without noise, and 30 tanh layers, as there",
    ),
    minutes=6,
    limits=(
        "Learning rates shrink with depth, as the theory wants; at one fixed rate times do depend on depth. The "
        "linear task is one map of 8 x 32."
    ),
)
