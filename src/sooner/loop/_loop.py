"""The reference loop, the one that races use: read it top to bottom as a training run goes.

run = sooner.train(task, "muon + cosine", seed=0)

Started by torchrun, the same call trains one model on several workers; each draws batches of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sooner.communication import _world
from sooner.communication._group import Group
from sooner.error import SoonerError
from sooner.loop.batches import HELD_OUT, batches_of
from sooner.loop.checkpoint_world import how_to_go_on, keeper
from sooner.loop.watched import StepLog, Watching, norm_of, rates
from sooner.loop.workers import Report, Workers
from sooner.objective import FROM_TASKS, PROVIDED, Objective, measured
from sooner.part import check_range
from sooner.recipe import Recipe
from sooner.recipe.training import Training
from sooner.task import EVALUATION_SEED, Task, derived_seed, worker_seed


@dataclass(repr=False)
class Run:
    """What a training run leaves behind.

    Attributes:
        model: the trained model (training weights).
        steps: steps at which the model was evaluated, starting with 0.
        values: the task's metric at these steps.
        metrics: every metric at these steps, the loss included.
        losses: training loss of every step taken, ``[steps]``.
        diverged_at: number of the first step whose loss or evaluation was not finite, or None.
        cpu_seconds: processor time of the steps, without evaluations and checkpoints.
        state_bytes: bytes of optimizer state at the end.
        together: what training on several workers has cost and given; None for one worker on its own. With several,
            everything above is the same on all of them, except for the model where they go apart.
    """

    model: nn.Module
    steps: list[int]
    values: list[float]
    metrics: list[dict[str, float]]
    losses: Tensor
    diverged_at: int | None
    cpu_seconds: float
    state_bytes: int
    together: Report | None = None

    def __repr__(self) -> str:
        """Say in one line what came of it."""
        end = f"diverged at step {self.diverged_at}" if self.diverged_at is not None else ""
        if not end and self.values:
            names = [name for name, value in self.metrics[-1].items() if value == self.values[-1]]
            end = f"{'loss' if 'loss' in names else names[0]} {self.values[0]:.4g} -> {self.values[-1]:.4g}"
        steps = self.steps[-1] if self.steps else len(self.losses)
        parameters = sum(p.numel() for p in self.model.parameters())
        told = [f"{steps} steps", end, f"{parameters:,} parameters", f"{self.cpu_seconds:.3g} CPU s"]
        return f"<{type(self).__name__}: {', '.join(filter(None, told))}>"


def train(
    task: Task,
    recipe: Recipe | str,
    seed: int = 0,
    steps: int | None = None,
    *,
    accumulate: int = 1,
    clip_norm: float | None = None,
    checkpoint: str | Path | None = None,
    save_every: int | None = None,
    evaluate_at: Iterable[int] | None = None,
    progress: Callable[[int, float], None] | None = None,
    watch: Watching = None,
    log_every: int = 10,
    timeout: float = 600.0,
) -> Run:
    """Train one model, alone or, where torchrun started this process, together with the others.

    Two calls with the same arguments give bit-identical results on a CPU.

    Args:
        task: what to train.
        recipe: how to train it.
        seed: decides initial weights, data order and the method's own noise, each through a stream of its own.
        steps: optimizer steps to take; default the task's budget.
        accumulate: micro-batches per step; their mean loss is minimised. Where the loss returns ``(sum, count)``, it
            is the mean over what the micro-batches of all workers have counted.
        clip_norm: scale gradients down to this global norm where they exceed it; None leaves them alone.
        checkpoint: file to resume from if it exists, and to write to; a folder where several workers train, or where
            it is one already.
        save_every: steps between checkpoints (the last step always writes one); None writes only at the end.
        evaluate_at: steps at which to evaluate; default evenly spaced as the task says.
        progress: called with (step, metric) after every evaluation, on the first worker.
        watch: who is told of steps and evaluations, on the first worker: the name of a sink such as "trackio" or
            "jsonl:log.jsonl", a `sooner.watch.Watch`, or a list of these. It changes no number and can stop nothing.
        log_every: steps from one that is told to the next; their numbers are read late, so that nothing waits.
        timeout: seconds to wait for the other workers in one exchange, before the one that is missing is named.

    Raises:
        SoonerError: a number out of range, a recipe that does not fit the model, a checkpoint of another run, or a
            worker that is lost.
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe(recipe)
    refuse_unmet(task, recipe)
    steps = task.steps if steps is None else steps
    whole = {"steps": steps, "accumulate": accumulate, "save_every": save_every or 1, "log_every": log_every}
    for name, value in whole.items():
        check_range("train", name, value, 1, math.inf, whole=True)
    check_range("train", "clip_norm", clip_norm or 0, 0, math.inf)
    check_range("train", "timeout", timeout, 1, 10**6)
    due = evaluation_steps(steps, task.evaluations) if evaluate_at is None else set(evaluate_at)
    identity = identity_of(task, recipe, seed, steps, due, accumulate=accumulate, clip_norm=clip_norm)
    _world.join(timeout)
    with _world.together(lambda: how_to_go_on(checkpoint)):
        log = StepLog(watch, log_every, speaks=Group().rank == 0)
        with log:
            return _train(task, recipe, identity, due, checkpoint, save_every, progress, log)


def identity_of(
    task: Task, recipe: Recipe, seed: int, steps: int, due: set[int], **more: float | None
) -> dict[str, Any]:
    """Return which run a checkpoint is of: everything that decides its numbers."""
    return {
        "task": task.name,
        "source": hashlib.sha256(task.source.encode()).hexdigest(),
        "metric": task.metric,
        "recipe": str(recipe),
        "seed": seed,
        "steps": steps,
        **more,
        "evaluate_at": sorted(due),
    }


def _train(
    task: Task,
    recipe: Recipe,
    identity: dict[str, Any],
    due: set[int],
    checkpoint: str | Path | None,
    save_every: int | None,
    progress: Callable[[int, float], None] | None,
    log: StepLog,
) -> Run:
    seed, steps, accumulate, clip_norm = (identity[name] for name in ("seed", "steps", "accumulate", "clip_norm"))
    model = task.model(derived_seed(seed, "init")).train()
    training = recipe.build(model, steps, provided_by(task), seed=derived_seed(seed, "surgery"))
    model = training.model  # surgery may have put another one in its place
    workers = Workers(training)
    batches = batches_of(task, recipe, seed, steps * accumulate, workers.rank, workers.size)
    evaluation = task.batches(EVALUATION_SEED, "eval")
    torch.manual_seed(worker_seed(seed, "private", workers.rank))
    losses = torch.zeros(steps, device=next(model.parameters()).device)
    run = Run(model, [], [], [], losses, None, 0.0, 0, workers.report())
    save, load = keeper(checkpoint, workers)
    done = load(checkpoint, identity, training, run) if checkpoint else 0
    workers.resume(done)
    log.start(
        kind="train",
        name=task.name,
        recipe=str(recipe),
        metric=task.metric,
        **{name: identity[name] for name in ("seed", "steps", "accumulate")},
        workers=workers.size,
        parameters=sum(p.numel() for p in model.parameters()),
        resumed_at=done,
    )

    with training.saver or contextlib.nullcontext():  # leaves no file half written behind
        for step in range(done, steps + 1):
            if step == steps:
                workers.finish(lambda: _means(task, model, evaluation)[task.metric])
            if step in due and step not in run.steps:
                evaluate(task, training, evaluation, run, step, workers)
                log.evaluation(step, run.metrics[-1])
                if progress and workers.rank == 0:
                    progress(step, run.values[-1])
                if run.diverged_at is not None:
                    break
            if checkpoint and step > done and (step == steps or (save_every and step % save_every == 0)):
                workers.share_losses(run.losses, step)
                save(checkpoint, identity, training, run, step)
            if step == steps:
                break

            started = time.process_time()
            with workers.timing(), log.timing():
                objective = objective_of(task, model, batches, step, accumulate)
                run.losses[step] = loss = training.backward(objective)  # stays on the device: nothing waits for it
                if told := log.due(step + 1):
                    training.average_gradients()
                    norm, speed = norm_of(training.optimizers), rates(training.optimizers)
                if clip_norm is not None:
                    training.average_gradients()
                    nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
                training.step(objective)
                training.zero_grad()
            if told:
                log.step(step + 1, loss, speed, norm)
            run.cpu_seconds += time.process_time() - started

    workers.share_losses(run.losses, step)
    if run.diverged_at is None:
        run.diverged_at = _first_non_finite(run.losses)  # where the last steps are not evaluated
    run.state_bytes = training.state_bytes()
    log.end(
        steps=step, **(run.metrics[-1] if run.metrics else {}), diverged_at=run.diverged_at, cpu_seconds=run.cpu_seconds
    )
    return run


def objective_of(task: Task, model: nn.Module, batches: Any, step: int, accumulate: int = 1) -> Objective:
    """Return the loss of one step of a task: a function of the step's number, so that resuming repeats nothing."""

    def micro_batches(number: int) -> list[Any]:
        return [batches[number * accumulate + micro] for micro in range(accumulate)]

    return Objective(
        model,
        task.loss,
        micro_batches(step),
        next_batches=lambda: micro_batches(step + 1),
        held_out=lambda: batches[HELD_OUT + step],
        losses=task.losses,
    )


def provided_by(task: Task) -> frozenset[str]:
    """Return what this loop offers to parts that need more than gradients."""
    return PROVIDED | task.provides | ({"losses"} if task.losses else frozenset())


def refuse_unmet(task: Task, recipe: Recipe) -> None:
    """Refuse a recipe with a part of a domain that the task has nothing to do with.

    Raises:
        SoonerError: naming the part, the task and what to do; or it is no task.
    """
    if not isinstance(task, Task):
        name = task if isinstance(task, str) else "digits"  # type: ignore[unreachable]
        raise SoonerError(
            f"{task!r} is not a task; sooner.workload({name!r}) loads a bundled one or a file, and sooner.Task is made "
            "of model, batches, loss and steps"
        )
    for one in recipe.slots:
        for need in sorted(getattr(one.factory, "needs", frozenset()) & (FROM_TASKS.keys() - task.provides)):
            words = need if need.endswith("s") else f"a {need}"
            raise SoonerError(f"{one.name} needs {words}, which task {task.name} does not provide; {FROM_TASKS[need]}")


def evaluation_steps(steps: int, evaluations: int) -> set[int]:
    """Return the steps to evaluate at: 0, the last, and evenly between."""
    return {round(i * steps / evaluations) for i in range(evaluations + 1)}


def evaluate(
    task: Task, training: Training, evaluation: Any, run: Run, step: int, workers: Workers | None = None
) -> None:
    """Measure the evaluation weights on the whole evaluation split and note where the run diverged, if it did.

    A model whose training loss is no longer finite is not measured: its values are NaN. Of several workers the first
    measures, for all.

    Raises:
        SoonerError: the task does not return the metric that it names.
    """
    workers = workers or Workers(training)
    workers.share_losses(run.losses, step)
    run.diverged_at = _first_non_finite(run.losses[:step])
    if run.diverged_at is None:
        with training.view() as model:
            found = workers.told_by_first(_means(task, model, evaluation) if workers.rank == 0 else None)
    else:
        found = dict.fromkeys(("loss", task.metric), math.nan)
    run.steps.append(step)
    run.metrics.append(found)
    run.values.append(found[task.metric])
    if run.diverged_at is None and not (math.isfinite(found["loss"]) and math.isfinite(found[task.metric])):
        run.diverged_at = step
    workers.note()


@torch.no_grad()
def _means(task: Task, model: nn.Module, evaluation: Any) -> dict[str, float]:
    """Return the loss and every metric, averaged over the evaluation batches, or over what they have counted."""
    totals: dict[str, Any] = {}
    counts: dict[str, Any] = {}
    model.eval()
    for i in range(len(evaluation)):
        batch = evaluation[i]
        found = {"loss": task.loss(model, batch), **(task.metrics(model, batch) if task.metrics else {})}
        for name, value in found.items():
            total, count = measured(value, name)
            totals[name] = totals.get(name, 0.0) + total
            counts[name] = counts.get(name, 0.0) + (1.0 if count is None else count)
    model.train()
    means = {name: float(total) / (float(counts[name]) or 1.0) for name, total in totals.items()}
    if task.metric not in means:
        raise SoonerError(
            f"task {task.name}: metrics(model, batch) returns no {task.metric!r}; return it or set metric"
        )
    return means


def _first_non_finite(losses: Tensor) -> int | None:
    """Return the number of the first step, counted from 1, whose loss is not finite."""
    broken = (~torch.isfinite(losses)).nonzero()
    return int(broken[0]) + 1 if len(broken) else None
