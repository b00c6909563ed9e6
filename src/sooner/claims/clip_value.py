"""Cutting off the largest entries of the gradient speeds up SGD on a transformer, because few of them make it sharp."""

import statistics as standard
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sooner import recipe
from sooner.claims._claim import Claim, Criterion, Measured, Measurement, Race
from sooner.claims._findings import Findings
from sooner.claims._regimes import ON_TEXT, text_regime
from sooner.gradient.clip_value import directional_sharpness
from sooner.race import statistics
from sooner.task import EVALUATION_SEED, derived_seed
from sooner.workloads import charlm

LANGUAGE = "language model"
ADAMW = "with AdamW"
SHARPNESS = "sharpness of directions"
CLIPPED = "clip_value(fraction=0.1) + sgd"
SHORTENED = "clip_norm + sgd"
HALVED = "clip_value(fraction=0.5) + adamw"
DIRECTIONS = {
    "sgd": "sgd(lr=0.1)",
    "clipped sgd": "clip_value(fraction=0.1) + sgd(lr=0.1)",
    "adam": "adamw(lr=1e-3, weight_decay=0)",
}
"""Learning rates here only scale the steps, whose lengths do not count."""
PATHS = {"sgd": "sgd(lr=0.1)", "adam": "adamw(lr=3e-3, weight_decay=0)"}


def sharpness(seed: int, path: str, steps: int) -> dict[str, Any]:
    """Return the median over five checkpoints of the curvature along the step of every one of `DIRECTIONS`.

    One model is trained along `path`. The others see its weights and gradients at every step, keep their own momentum,
    and say where they would go; all are measured on the same held-out batch.
    """
    model = charlm.model(derived_seed(seed, "init"))
    batches = charlm.batches(derived_seed(seed, "order"), "train")
    held_out = charlm.batches(EVALUATION_SEED, "eval")[0]
    training = recipe.Recipe(PATHS[path]).build(model, steps)
    shadows = {name: charlm.model(0) for name in DIRECTIONS}
    others = {name: recipe.Recipe(text).build(shadows[name], steps) for name, text in DIRECTIONS.items()}
    found: dict[str, list[float]] = {name: [] for name in DIRECTIONS}
    for step in range(1, steps + 1):
        torch.autograd.backward(charlm.loss(model, batches[step - 1]))
        for name, other in others.items():
            direction = _follow(shadows[name], model, other)
            if step % (steps // 5) == 0:
                with sdpa_kernel(SDPBackend.MATH):
                    measured = directional_sharpness(
                        lambda: charlm.loss(model, held_out), list(model.parameters()), direction
                    )
                found[name].append(float(measured.sharpness))
        training.step()
        training.zero_grad()
    return {**{name: standard.median(values) for name, values in found.items()}, "all": found}


@torch.no_grad()
def _follow(shadow: nn.Module, model: nn.Module, training: Any) -> list[Tensor]:
    """Return the step that another optimizer takes from the model's weights with the model's gradients."""
    pairs = list(zip(shadow.parameters(), model.parameters(), strict=True))
    for mine, p in pairs:
        mine.copy_(p)
        mine.grad = p.grad.clone() if p.grad is not None else None
    training.step()
    return [mine - p for mine, p in pairs]


def _sharper(f: Findings, path: str, than: str) -> Measured:
    """Return how many times sharper the direction of SGD is than another one, over seeds; undecided where one bends."""
    ours, theirs = f.values(SHARPNESS, "sgd", path=path), f.values(SHARPNESS, than, path=path)
    if min(*ours, *theirs) <= 0:
        return Measured(float("nan"), unit="x", undecided="a median curvature is negative")
    found = statistics.ratio_summary(ours, theirs)
    return Measured(found["ratio"] or 0.0, found["low"], found["high"], found["p"], unit="x")


CASES = [{"seed": s, "path": path, "steps": 250} for path in PATHS for s in range(41, 47)]

CLAIM = Claim(
    part="clip_value",
    paper="coord-clip",
    headline=(
        "On transformers the directions of SGD are far sharper than Adam's because of few coordinates; clipping these "
        "makes them flatter and speeds up SGD and adaptive methods."
    ),
    source="Pan and Li, 2023, arXiv 2306.00204, sections 3 to 5",
    experiment=(
        "A character GPT is trained by SGD with momentum, the same with a tenth of the entries clipped, the same with "
        "its global norm clipped, and AdamW; and AdamW with half of the entries clipped. Beside it, the curvature "
        "along the step of each method is measured at the same weights, on a path of SGD and on one of Adam."
    ),
    baseline=(
        "SGD with momentum, its learning rate tuned with as many trials as anybody else's; clipping by the global norm "
        "also tunes its norm within them."
    ),
    experiments={
        LANGUAGE: Race(f"sgd; {SHORTENED}; {CLIPPED}; adamw", "charlm", steps=1000, tune=7),
        ADAMW: Race(f"adamw; {HALVED}", "charlm", steps=1000),
        SHARPNESS: Measurement(sharpness, CASES, [{"seed": 41, "path": path, "steps": 5} for path in PATHS]),
    },
    criteria=[
        Criterion(
            "SGD with a tenth clipped takes at most 0.6x of the steps of SGD to the middle target",
            lambda f: f.steps_ratio(LANGUAGE, CLIPPED),
            at_most=0.6,
            gain=True,
        ),
        Criterion(
            "along the path of SGD its direction is at least 10x as sharp as Adam's (median of five checkpoints)",
            lambda f: _sharper(f, "sgd", "adam"),
            at_least=10.0,
        ),
        Criterion(
            "the same along the path of Adam",
            lambda f: _sharper(f, "adam", "adam"),
            at_least=10.0,
        ),
        Criterion(
            "along the path of SGD its direction is sharper than with a tenth of the entries clipped",
            lambda f: _sharper(f, "sgd", "clipped sgd"),
            at_least=1.0,
            gain=True,
        ),
        Criterion(
            "AdamW with half of the entries clipped takes fewer steps than AdamW",
            lambda f: f.steps_ratio(ADAMW, HALVED),
            at_most=1.0,
            gain=True,
        ),
        Criterion(
            "clipping a tenth takes fewer steps than clipping the global norm",
            lambda f: f.steps_ratio(LANGUAGE, CLIPPED, against=SHORTENED),
            at_most=1.0,
            gain=True,
            control=True,
        ),
    ],
    trend={
        "SGD, global norm": lambda f: f.steps_ratio(LANGUAGE, SHORTENED),
        "AdamW over SGD": lambda f: f.steps_ratio(LANGUAGE, "adamw"),
        "sharper than clipped, path of Adam": lambda f: _sharper(f, "adam", "clipped sgd"),
    },
    regime=text_regime(
        "Transformers for translation and small GPTs, SGD with momentum and Adam, constant rates",
        "a GPT with SGD and Adam from random weights, as there",
        optimizer="SGD with momentum",
    ),
    known=ON_TEXT,
    minutes=13,
    limits=(
        "Gradients are clipped, also under AdamW; the paper clips the update of adaptive methods. Curvature is that of "
        "one held-out batch."
    ),
)
