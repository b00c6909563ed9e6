"""The reference loop, the one that races use: read it top to bottom as a training run goes.

run = sooner.train(task, "muon + cosine", seed=0)
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sooner.checkpoint import load_checkpoint, save_checkpoint
from sooner.error import SoonerError
from sooner.objective import PROVIDED, Objective
from sooner.part import check_range
from sooner.recipe import Recipe
from sooner.task import EVALUATION_SEED, Task, derived_seed
from sooner.training import Training


@dataclass
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
    """

    model: nn.Module
    steps: list[int]
    values: list[float]
    metrics: list[dict[str, float]]
    losses: Tensor
    diverged_at: int | None
    cpu_seconds: float
    state_bytes: int


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
) -> Run:
    """Train one model. Two calls with the same arguments give bit-identical results on a CPU.

    Args:
        task: what to train.
        recipe: how to train it.
        seed: decides initial weights, data order and the method's own noise, each through a stream of its own.
        steps: optimizer steps to take; default the task's budget.
        accumulate: micro-batches per step; their mean loss is minimised.
        clip_norm: scale gradients down to this global norm where they exceed it; None leaves them alone.
        checkpoint: file to resume from if it exists, and to write to.
        save_every: steps between checkpoints (the last step always writes one); None writes only at the end.
        evaluate_at: steps at which to evaluate; default evenly spaced as the task says.
        progress: called with (step, metric) after every evaluation.

    Raises:
        SoonerError: a number out of range, a recipe that does not fit the model, or a checkpoint of another run.
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe(recipe)
    steps = task.steps if steps is None else steps
    for name, value in (("steps", steps), ("accumulate", accumulate), ("save_every", save_every or 1)):
        check_range("train", name, value, 1, math.inf, whole=True)
    check_range("train", "clip_norm", clip_norm or 0, 0, math.inf)
    due = evaluation_steps(steps, task.evaluations) if evaluate_at is None else set(evaluate_at)
    identity = {
        "task": task.name,
        "source": hashlib.sha256(task.source.encode()).hexdigest(),
        "metric": task.metric,
        "recipe": str(recipe),
        "seed": seed,
        "steps": steps,
        "accumulate": accumulate,
        "clip_norm": clip_norm,
        "evaluate_at": sorted(due),
    }
    model = task.model(derived_seed(seed, "init")).train()
    batches = task.batches(derived_seed(seed, "order"), "train")
    evaluation = task.batches(EVALUATION_SEED, "eval")
    torch.manual_seed(derived_seed(seed, "private"))
    training = recipe.build(model, steps, provided_by(task))
    losses = torch.zeros(steps, device=next(model.parameters()).device)
    run = Run(model, [], [], [], losses, None, 0.0, 0)
    done = load_checkpoint(checkpoint, identity, training, run) if checkpoint else 0

    for step in range(done, steps + 1):
        if step in due and step not in run.steps:
            evaluate(task, training, evaluation, run, step)
            if progress:
                progress(step, run.values[-1])
            if run.diverged_at is not None:
                break
        if checkpoint and step > done and (step == steps or (save_every and step % save_every == 0)):
            save_checkpoint(checkpoint, identity, training, run, step)
        if step == steps:
            break

        started = time.process_time()
        objective = objective_of(task, model, batches, step, accumulate)
        run.losses[step] = training.backward(objective)  # stays on the device: nothing waits for it
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        training.step(objective)
        training.zero_grad()
        run.cpu_seconds += time.process_time() - started

    if run.diverged_at is None:
        run.diverged_at = _first_non_finite(run.losses)  # where the last steps are not evaluated
    run.state_bytes = training.state_bytes()
    return run


HELD_OUT = 2**40
"""Number from which on batches of the training split are kept for parts that check themselves (see `Objective`)."""


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
    return PROVIDED | ({"losses"} if task.losses else frozenset())


def evaluation_steps(steps: int, evaluations: int) -> set[int]:
    """Return the steps to evaluate at: 0, the last, and evenly between."""
    return {round(i * steps / evaluations) for i in range(evaluations + 1)}


def evaluate(task: Task, training: Training, evaluation: Any, run: Run, step: int) -> None:
    """Measure the evaluation weights on the whole evaluation split and note where the run diverged, if it did.

    A model whose training loss is no longer finite is not measured: its values are NaN.

    Raises:
        SoonerError: the task does not return the metric that it names.
    """
    run.diverged_at = _first_non_finite(run.losses[:step])
    if run.diverged_at is None:
        found = _means(task, training, evaluation)
        if task.metric not in found:
            raise SoonerError(
                f"task {task.name}: metrics(model, batch) returns no {task.metric!r}; return it or set metric"
            )
    else:
        found = dict.fromkeys(("loss", task.metric), math.nan)
    run.steps.append(step)
    run.metrics.append(found)
    run.values.append(found[task.metric])
    if run.diverged_at is None and not (math.isfinite(found["loss"]) and math.isfinite(found[task.metric])):
        run.diverged_at = step


@torch.no_grad()
def _means(task: Task, training: Training, evaluation: Any) -> dict[str, float]:
    """Return the loss and every metric, averaged over the evaluation batches."""
    totals: dict[str, Any] = {}
    with training.view() as model:
        model.eval()
        for i in range(len(evaluation)):
            batch = evaluation[i]
            found = {"loss": task.loss(model, batch), **(task.metrics(model, batch) if task.metrics else {})}
            for name, value in found.items():
                totals[name] = totals.get(name, 0.0) + value
        model.train()
    return {name: float(total) / len(evaluation) for name, total in totals.items()}


def _first_non_finite(losses: Tensor) -> int | None:
    """Return the number of the first step, counted from 1, whose loss is not finite."""
    broken = (~torch.isfinite(losses)).nonzero()
    return int(broken[0]) + 1 if len(broken) else None
