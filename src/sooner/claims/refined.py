"""A schedule refined from logged gradient norms ends lower than linear decay."""

from functools import cache
from typing import Any

import torch

from sooner import loop, workloads
from sooner.claims._claim import Claim, Criterion, Measurement, Regime
from sooner.recipe import Recipe
from sooner.schedule.linear import Linear
from sooner.schedule.refined import NormLog, Refined
from sooner.task import derived_seed

RATES = {"adamw": (0.0025, 0.005, 0.01, 0.02, 0.04), "sgd": (0.05, 0.1, 0.2, 0.4, 0.8)}
OPTIMIZERS = {"charlm": "adamw", "shapes": "sgd"}
LOGGED, TUNED = 50_000, 50_001
"""Seeds of the run that logs norms and of the runs that choose learning rates; the reported seeds are others."""


def norms(name: str, lr: float, steps: int) -> tuple[float, ...]:
    """Return the gradient norms of one run with linear decay."""
    task = workloads.find(name)
    model = task.model(derived_seed(LOGGED, "init")).train()
    batches = task.batches(derived_seed(LOGGED, "order"), "train")
    training = Recipe(f"{OPTIMIZERS[name]}(lr={lr}) + linear").build(model, steps)
    log = NormLog(training.optimizers[0])
    for step in range(steps):
        objective = loop.objective_of(task, model, batches, step)
        training.backward(objective)
        training.step(objective)
        training.zero_grad()
    return tuple(float(f"{value:.6g}") for value in log.norms().tolist())


def final(name: str, schedule: str, lr: float, seed: int, steps: int) -> float:
    """Return the evaluation loss at the end of a run."""
    recipe = f"{OPTIMIZERS[name]}(lr={lr}) + {schedule}"
    run = loop.train(workloads.find(name), recipe, seed, steps, evaluate_at=[steps])
    return run.values[-1] if run.diverged_at is None else float("inf")


@cache
def prepared(name: str, steps: int, tune: int) -> tuple[float, str, float, float]:
    """Return the best rate with linear decay, the schedule refined from a run with it, its best rate, a constant's."""
    rates = RATES[OPTIMIZERS[name]][:tune]
    linear = min(rates, key=lambda lr: final(name, "linear", lr, TUNED, steps))
    refined = f"refined(norms={norms(name, linear, steps)})"
    ours, constant = (
        min(rates, key=lambda lr: final(name, schedule, lr, TUNED, steps))
        for schedule in (refined, f"constant(warmup={steps // 20})")
    )
    return linear, refined, ours, constant


def compare(name: str, seed: int, steps: int, tune: int) -> dict[str, Any]:
    """Train with linear decay and with the refined schedule, each at its best rate on the tuning seed."""
    linear, refined, ours, constant = prepared(name, steps, tune)
    optimizer = Recipe(f"{OPTIMIZERS[name]} + {refined}").build(torch.nn.Linear(1, 1), steps).optimizers[0]
    return {
        "linear": final(name, "linear", linear, seed, steps),
        "refined": final(name, refined, ours, seed, steps),
        "constant": final(name, f"constant(warmup={steps // 20})", constant, seed, steps),
        "rates": [linear, ours, constant],
        "first factor": optimizer.param_groups[0]["lr"] / optimizer.param_groups[0]["initial_lr"],
    }


def difference_to_linear(kind: str, steps: int) -> dict[str, Any]:
    """Return the largest difference between the factors refined from constant norms and linear decay's."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    refined, linear = Refined(optimizer, steps, norms=[3.0] * 50, kind=kind), Linear(optimizer, steps, warmup=0.0)
    return {"difference": max(abs(refined.factor(step) - linear.factor(step)) for step in range(steps))}


STEPS = {"charlm": 1000, "shapes": 500}
CASES = [{"name": name, "seed": seed, "steps": STEPS[name], "tune": 5} for name in OPTIMIZERS for seed in range(8)]
CONSTANT = [{"kind": kind, "steps": 1000} for kind in ("sgd", "adam")]

CLAIM = Claim(
    part="refined",
    paper="refined-schedule",
    headline="Schedules refined from gradient norms improve on linear decay, with warm-up and annealing of their own.",
    source="Defazio et al., 2023, arXiv 2310.07831, abstract",
    experiment=(
        "Gradient norms of one run with linear decay are logged; the schedule that they give is used on eight other "
        "seeds, for a character GPT with AdamW and a convolutional network with SGD: loss at the end. And exactly: "
        "constant norms give linear decay."
    ),
    baseline="Linear decay after 5 % of warm-up; both choose among five learning rates on a seed of their own.",
    experiments={
        "refined": Measurement(compare, CASES, [{"name": "shapes", "seed": 0, "steps": 8, "tune": 1}]),
        "constant norms": Measurement(difference_to_linear, CONSTANT, CONSTANT),
    },
    criteria=[
        Criterion(
            "on text a lower loss than linear decay",
            lambda f: f.columns_ratio("refined", "refined", "linear", name="charlm"),
            at_most=1.0,
            gain=True,
        ),
        Criterion(
            "on images a lower loss than linear decay",
            lambda f: f.columns_ratio("refined", "refined", "linear", name="shapes"),
            at_most=1.0,
            gain=True,
        ),
        Criterion(
            "constant norms give linear decay, to 1e-12",
            lambda f: f.largest("constant norms", "difference"),
            at_most=1e-12,
            control=True,
        ),
        *(
            Criterion(
                f"decay shows here: at a constant rate it ends at least 1.01x as high ({name})",
                lambda f, name=name: f.columns_ratio("refined", "constant", "linear", name=name),  # type: ignore[misc]
                at_least=1.01,
                gain=True,
                positive=True,
            )
            for name in OPTIMIZERS
        ),
    ],
    trend={
        "text, first rate over the largest": lambda f: f.mean("refined", "first factor", "x", name="charlm"),
        "images, first rate over the largest": lambda f: f.mean("refined", "first factor", "x", name="shapes"),
    },
    regime=Regime(
        "ten kinds of problem, from ImageNet and CIFAR to translation and language models, whole schedules",
        "AdamW on text, SGD with momentum on images",
        "linear decay, and what is refined from it",
        "batches of 8 windows of text; of 64 images that never repeat",
        "long enough for decay to show, as there",
    ),
    minutes=14,
    limits="Two tasks, 1,000 and 500 steps. Batch normalization is the method's known weak spot.",
    extra="sklearn",
)
