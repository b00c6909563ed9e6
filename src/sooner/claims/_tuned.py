"""Runs of simulated clusters for measurements: each arm at the learning rate that suits it best on another seed."""

from __future__ import annotations

import functools
import math

from sooner.claims.tasks.digits_experts import model as experts
from sooner.claims.tasks.digits_workers import batches, loss, model
from sooner.cluster import ClusterRun, train_cluster
from sooner.task import Task

TASKS = {"digits_workers": Task(model, batches, loss, 100), "digits_experts": Task(experts, batches, loss, 100)}
TUNING_SEED = 1_000
RATES = {"adamw": (0.003, 0.01, 0.03, 0.1), "sgd": (0.1, 0.3, 1.0, 3.0)}


def run_of(task: str, arm: str, rate: float, seed: int, steps: int, workers: int) -> ClusterRun:
    """Train with a recipe such as ``adamw + silent``, its optimizer at this rate; evaluate after every tenth step."""
    optimizer, _, parts = arm.partition(" + ")
    settings = f"lr={rate}, momentum=0" if optimizer == "sgd" else f"lr={rate}"
    recipe = f"{optimizer}({settings}) + {parts}"
    return train_cluster(TASKS[task], recipe, seed, steps, workers, evaluate_at=range(0, steps + 1, 10))


@functools.cache
def best_rate(task: str, arm: str, steps: int, workers: int) -> float:
    """Return the rate whose average model ends lowest."""

    def final(rate: float) -> float:
        found = run_of(task, arm, rate, TUNING_SEED, steps, workers)
        value = found.values[-1]
        return value if found.diverged_at is None and math.isfinite(value) else math.inf

    return min(RATES[arm.partition(" + ")[0]], key=final)
