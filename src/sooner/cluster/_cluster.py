"""A simulated cluster: the reference loop with many workers in one process, exact, seeded and without a link.

run = train_cluster(task, "sgd(lr=0.1) + local_sgd(every=20) + sampled(share=0.2)", workers=50)

Every worker draws its own batches; what the recipe's communication parts do with gradients or weights is the same code
as between real processes, on tensors whose first dimension is the worker.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from sooner.cluster.workers import Cluster
from sooner.communication._wire import Traffic
from sooner.loop import Run, evaluate, evaluation_steps, identity_of
from sooner.loop.checkpoint import load_checkpoint, save_checkpoint
from sooner.loop.watched import StepLog, Watching, rates
from sooner.part import check_range
from sooner.recipe import Recipe
from sooner.recipe.training import Training
from sooner.task import EVALUATION_SEED, Task, derived_seed


@dataclass(repr=False)
class ClusterRun(Run):
    """What a run of a simulated cluster leaves behind; `model` and `values` are those of the average of all workers.

    Attributes:
        model: the average model (training weights).
        average: the metric of the average model at the steps of `steps`; the same as `values`.
        replicas: the mean of the metric over the workers' own models.
        consensus: ``(1 / m) sum_i ||x_i - mean x||^2``, the workers' distance from their average.
        drift: the same just before the last outer step.
        errors: share of the last vector that was not sent, ``||v - sent|| / ||v||``; NaN before the first exchange.
        traffic: what one worker has sent that took part in every round.
        gradients: gradients computed per optimizer step of a worker.
        worker_steps: optimizer steps of all workers together.
        rounds: outer steps, or steps where there is no outer part.
        seconds: time on the simulated clock, in steps of the median worker; exchanges take none.
    """

    average: list[float] = field(default_factory=list)
    replicas: list[float] = field(default_factory=list)
    consensus: list[float] = field(default_factory=list)
    drift: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    traffic: Traffic = field(default_factory=Traffic)
    gradients: float = 1.0
    worker_steps: int = 0
    rounds: int = 0
    seconds: float = 0.0


CURVES = ("average", "replicas", "consensus", "drift", "errors")


def train_cluster(
    task: Task,
    recipe: Recipe | str,
    seed: int = 0,
    steps: int | None = None,
    workers: int = 8,
    *,
    checkpoint: str | Path | None = None,
    save_every: int | None = None,
    evaluate_at: Iterable[int] | None = None,
    progress: Callable[[int, float], None] | None = None,
    watch: Watching = None,
    log_every: int = 10,
) -> ClusterRun:
    """Train one model on a simulated cluster. Two calls with the same arguments give bit-identical results on a CPU.

    Args:
        task: what to train; where it defines ``shards``, every worker has data of its own.
        recipe: how to train it.
        seed: decides initial weights, data order, who takes part and the method's own noise, each through a stream of
            its own.
        steps: optimizer steps that every worker is asked for; default the task's budget.
        workers: how many there are.
        checkpoint: file to resume from if it exists, and to write to.
        save_every: steps between checkpoints (the last step always writes one); None writes only at the end.
        evaluate_at: steps at which to evaluate; default evenly spaced as the task says.
        progress: called with (step, metric of the average model) after every evaluation.
        watch: who is told of steps and evaluations, as in `sooner.train`; a step's loss is the mean over the workers,
            its rates are the first worker's, and gradients are not measured.
        log_every: steps from one that is told to the next.

    Raises:
        SoonerError: a number out of range, a recipe that does not fit the model or the cluster, or a checkpoint of
            another run.
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe(recipe)
    steps = task.steps if steps is None else steps
    whole = {"steps": steps, "workers": workers, "save_every": save_every or 1, "log_every": log_every}
    for name, value in whole.items():
        check_range("train_cluster", name, value, 1, math.inf, whole=True)
    due = evaluation_steps(steps, task.evaluations) if evaluate_at is None else set(evaluate_at)
    with StepLog(watch, log_every) as log:
        return _train(task, recipe, seed, steps, workers, due, checkpoint, save_every, progress, log)


def _train(
    task: Task,
    recipe: Recipe,
    seed: int,
    steps: int,
    workers: int,
    due: set[int],
    checkpoint: str | Path | None,
    save_every: int | None,
    progress: Callable[[int, float], None] | None,
    log: StepLog,
) -> ClusterRun:
    identity = identity_of(task, recipe, seed, steps, due, workers=workers)
    evaluation = task.batches(EVALUATION_SEED, "eval")
    torch.manual_seed(derived_seed(seed, "private"))
    cluster = Cluster(task, recipe, seed, steps, workers)
    losses = torch.zeros(steps, device=cluster.lanes.start.device)
    run = ClusterRun(cluster.model, [], [], [], losses, None, 0.0, 0, traffic=cluster.exchange.wire.traffic)
    run.gradients = cluster.passes
    saved = _Saved(cluster, run)
    done = load_checkpoint(checkpoint, identity, saved, run) if checkpoint else 0
    log.start(
        kind="cluster",
        name=task.name,
        recipe=str(recipe),
        metric=task.metric,
        seed=seed,
        steps=steps,
        workers=workers,
        parameters=sum(p.numel() for p in cluster.model.parameters()),
        resumed_at=done,
    )

    for step in range(done, steps + 1):
        if step == steps:
            cluster.finish(step)
        if step in due and step not in run.steps:
            _evaluate(task, cluster, evaluation, run, step)
            log.evaluation(step, {**run.metrics[-1], **{name: getattr(run, name)[-1] for name in CURVES[1:]}})
            if progress:
                progress(step, run.values[-1])
            if run.diverged_at is not None:
                break
        if checkpoint and step > done and (step == steps or (save_every and step % save_every == 0)):
            save_checkpoint(checkpoint, identity, saved, run, step)
        if step == steps:
            break

        started = time.process_time()
        speed = rates(cluster.optimizers) if log.due(step + 1) else None
        with log.timing():
            run.losses[step] = loss = cluster.step(step)
        run.cpu_seconds += time.process_time() - started
        if speed is not None:
            log.step(step + 1, loss, speed)

    if run.diverged_at is None and not bool(torch.isfinite(run.losses).all()):
        run.diverged_at = int((~torch.isfinite(run.losses)).nonzero()[0]) + 1
    cluster.show(cluster.average())
    run.state_bytes = cluster.state_bytes()
    run.worker_steps, run.rounds, run.seconds = cluster.worker_steps, cluster.rounds, cluster.seconds
    log.end(
        steps=step, **(run.metrics[-1] if run.metrics else {}), diverged_at=run.diverged_at, cpu_seconds=run.cpu_seconds
    )
    return run


def _evaluate(task: Task, cluster: Cluster, evaluation: object, run: ClusterRun, step: int) -> None:
    """Measure the average model and, where they differ, every worker's own."""
    shown = Training(cluster.model, [], [])
    with contextlib.ExitStack() as stack:
        average, everyone = cluster.evaluated(stack)  # [d], and [m, d] or [d] where all are the same
        run.consensus.append(0.0 if everyone.ndim == 1 else distance(everyone))
        cluster.show(average)
        evaluate(task, shown, evaluation, run, step)
        run.average.append(run.values[-1])
        if everyone.ndim == 1 or run.diverged_at is not None:
            run.replicas.append(run.values[-1])
        else:
            run.replicas.append(_mean_over(everyone, task, cluster, evaluation, run.losses[:step]))
    run.drift.append(float(cluster.drift))
    run.errors.append(math.nan if cluster.exchange.lost is None else float(cluster.exchange.lost))


def _mean_over(everyone: Tensor, task: Task, cluster: Cluster, evaluation: object, losses: Tensor) -> float:
    own = Run(cluster.model, [], [], [], losses, None, 0.0, 0)
    for weights in everyone:
        cluster.show(weights)
        evaluate(task, Training(cluster.model, [], []), evaluation, own, len(losses))
        own.diverged_at = None
    return math.fsum(own.values) / len(own.values)


def distance(everyone: Tensor) -> float:
    """Return ``(1 / m) sum_i ||x_i - mean x||^2`` of weights ``[m, d]``."""
    return float((everyone - everyone.mean(0)).square().sum(1).mean())


class _Saved:
    """The cluster and what a run has noted beyond a common run's history, as checkpoints want them."""

    def __init__(self, cluster: Cluster, run: ClusterRun) -> None:
        self.model, self._cluster, self._run = cluster.model, cluster, run

    def state_dict(self) -> dict[str, object]:
        return {"cluster": self._cluster.state_dict(), "curves": {name: getattr(self._run, name) for name in CURVES}}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self._cluster.load_state_dict(state["cluster"])  # type: ignore[arg-type]
        for name in CURVES:
            setattr(self._run, name, state["curves"][name])  # type: ignore[index]
