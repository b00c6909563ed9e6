"""Clients of different speed on a simulated clock: seconds and rounds until their common weights are good enough."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

from sooner.claims._claim import Criterion, Measurement
from sooner.claims._tuned import TUNING_SEED
from sooner.claims.tasks.digits_clients import batches, loss, metrics, model, shards
from sooner.cluster import train_cluster
from sooner.communication._cohort import Cohort
from sooner.communication._refusals import only
from sooner.part import load
from sooner.recipe.text import parse
from sooner.task import Task, derived_seed

TASK = Task(model, batches, loss, 100, metrics, shards=shards)
WRONG = 0.25
"""Share of wrong answers that counts as good enough; at the start it is 0.9."""
RATES = (0.1, 0.3, 1.0, 3.0)
FEDAVG = "local_sgd(every=5) + full(spread=1.0)"


def trained(
    arm: str, seed: int, rounds: int, workers: int, every: int = 5, rate: float | None = None
) -> dict[str, Any]:
    """Return the simulated seconds and rounds until few answers are wrong, and the share and loss at the end.

    Args:
        arm: the communication parts of a recipe.
        seed: of the run.
        rounds: how many there are.
        workers: clients.
        every: steps of a round, as the arm says.
        rate: learning rate; None for the one that gets there first on a seed of its own.
    """
    rate = best_rate(arm, rounds, workers, every) if rate is None else rate
    steps = rounds * every
    at = sorted({*range(0, steps, 2 * every), steps})
    run = train_cluster(TASK, f"sgd(lr={rate}, momentum=0) + {arm}", seed, steps, workers, evaluate_at=at)
    cohort = only([load(call.name)(**call.settings) for call in parse(arm)], Cohort)
    assert cohort is not None
    numbers = range(1, rounds + 1)
    each = [cohort.round(n, workers, every, derived_seed(seed, "cohort")).seconds for n in numbers]
    clock = [0.0, *itertools.accumulate(each)]
    wrong = [one["error"] for one in run.metrics]
    good = next((i for i in range(len(wrong) - 1) if max(wrong[i : i + 2]) <= WRONG), None)
    reached = None if good is None else run.steps[good] // every
    return {
        "seconds": None if reached is None else clock[reached],
        "rounds": reached,
        "wrong": wrong[-1],
        "loss": run.values[-1],
        "clock": clock[-1] / run.seconds,
        "gradients": run.worker_steps,
        "rate": rate,
    }


@functools.cache
def best_rate(arm: str, rounds: int, workers: int, every: int) -> float:
    """Return the learning rate that is there first; of those that never are, the one that ends lowest."""

    def score(rate: float) -> tuple[float, float]:
        found = trained(arm, TUNING_SEED, rounds, workers, every, rate)
        loss = found["loss"]
        return found["rounds"] or math.inf, loss if math.isfinite(loss) else math.inf

    return min(RATES, key=score)


def cases(arms: dict[str, int], workers: int = 16, every: int = 5, seeds: int = 6) -> list[dict[str, Any]]:
    """Return the cases of arms with their rounds on every seed."""
    return [
        {"arm": arm, "seed": s, "rounds": rounds, "workers": workers, "every": every}
        for arm, rounds in arms.items()
        for s in range(seeds)
    ]


def on_clock(arms: dict[str, int], seeds: int = 6) -> dict[str, Measurement]:
    """Return the experiment of arms with their rounds, and its miniature of four."""
    return {"clock": Measurement(trained, cases(arms, seeds=seeds), cases(dict.fromkeys(arms, 4), 4, seeds=1))}


def sooner_than_fedavg(arm: str) -> Criterion:
    """Return the criterion that an arm is there in at most 0.6x of the time of `FEDAVG`."""
    return Criterion(
        "at most 0.6x of the seconds of FedAvg",
        lambda f: f.paired_ratio("clock", "seconds", {"arm": arm}, {"arm": FEDAVG}),
        at_most=0.6,
        gain=True,
    )
