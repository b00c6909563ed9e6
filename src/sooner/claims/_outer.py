"""Outer optimizers where their papers have them: a pretrained start, AdamW with cosine inside, a hundred outer steps.

What counts is the loss at the end of a run whose rates decay: on the way there, rare averages and outer momentum are
seen through the noise of a rate that is still high.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any

from sooner.claims._claim import Criterion, Measured, Measurement, Regime
from sooner.claims._findings import Findings
from sooner.claims._tuned import TUNING_SEED
from sooner.claims.tasks import text_workers_pretrained as pretrained
from sooner.cluster import ClusterRun, train_cluster
from sooner.task import Task

TASK = Task(pretrained.model, pretrained.batches, pretrained.loss, pretrained.steps, fingerprint=pretrained.fingerprint)
WORKERS = 4
STEPS = 2000
WINDOW = 20
"""Inner steps of a window: a hundred outer steps."""
ARMS = {
    "dense": "",
    "local": f" + local_sgd(every={WINDOW})",
    "silent": " + silent",
    "diloco": f" + diloco(every={WINDOW}, lr={{outer}})",
    "snoo": f" + snoo(every={WINDOW}, lr={{outer}})",
    "streaming": f" + streaming_diloco(every={WINDOW}, fragments=4, delay=2, lr={{outer}})",
}
RATES = (0.001, 0.002, 0.004)
OUTER = (0.4, 0.7, 1.0)
"""Outer rates: around those that the papers use. Arms without one are tuned over inner rates alone."""
SEEDS = 8


def trained(arm: str, seed: int, steps: int, workers: int) -> dict[str, Any]:
    """Return the loss of the average model at the end, at the best rates, and the bytes that leave a worker a step."""
    rate, outer = best(arm, steps, workers) if steps > 2 * WINDOW else (RATES[1], OUTER[1])
    run = run_of(arm, rate, outer, seed, steps, workers)
    value = run.values[-1] if run.diverged_at is None else None
    sent = run.traffic
    return {
        "loss": value,
        "bytes": sent.wire_bytes / steps,
        "message": sent.payload_bytes / max(sent.messages, 1),
        "rate": rate,
        "outer": outer,
    }


def run_of(arm: str, rate: float, outer: float, seed: int, steps: int, workers: int) -> ClusterRun:
    """Train with one arm; the inner rate decays along a cosine."""
    recipe = f"adamw(lr={rate}) + cosine" + ARMS[arm].format(outer=outer)
    return train_cluster(TASK, recipe, seed, steps, workers, evaluate_at=[steps])


@functools.cache
def best(arm: str, steps: int, workers: int) -> tuple[float, float]:
    """Return inner and outer rate that end lowest on the tuning seed."""

    def final(rates: tuple[float, float]) -> float:
        run = run_of(arm, *rates, TUNING_SEED, steps, workers)
        value = run.values[-1]
        return value if run.diverged_at is None and math.isfinite(value) else math.inf

    outer = OUTER if "{outer}" in ARMS[arm] else OUTER[1:2]
    return min(((rate, one) for rate in RATES for one in outer), key=final)


def arms(names: Iterable[str], shorter: Mapping[str, int] | None = None) -> Measurement:
    """Return the measurement of arms on all seeds; those in `shorter` also with so many steps."""
    lengths = [(name, STEPS) for name in names] + list((shorter or {}).items())
    cases = [
        {"arm": name, "seed": seed, "steps": steps, "workers": WORKERS}
        for name, steps in lengths
        for seed in range(SEEDS)
    ]
    return Measurement(trained, cases, [{**case, "steps": WINDOW, "workers": 2} for case in cases if case["seed"] == 0])


def over(f: Findings, key: str, new: str, base: str, steps: int | None = None) -> Measured:
    """Return the ratio of a value of an arm over that of another; the first with `steps` where it ran shorter too."""
    ours = {"arm": new} if steps is None else {"arm": new, "steps": steps}
    return f.paired_ratio("workers", key, ours, {"arm": base, "steps": STEPS} if steps is not None else {"arm": base})


def averaging_matters() -> Criterion:
    """Return the positive control that workers which never average end higher than those that do at every step."""
    return Criterion(
        "averages matter here: workers that never average end at least 1.02x as high as averaged gradients",
        lambda f: over(f, "loss", "silent", "dense"),
        at_least=1.02,
        gain=True,
        positive=True,
    )


def regime(paper: str, why: str) -> Regime:
    """Return the regime of these experiments."""
    noise = f"batches of 32 windows for each of {WORKERS} workers, of the same text for all"
    schedule = f"cosine to zero over {STEPS:,} steps, {STEPS // WINDOW} outer ones, of 64,672 parameters"
    return Regime(paper, "AdamW", schedule, noise, why, start="trained by one worker for 600 steps")
