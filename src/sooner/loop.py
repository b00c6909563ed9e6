"""The reference loop, the one that races use: read it top to bottom as a training run goes.

    run = sooner.train(task, "muon + cosine", seed=0)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sooner.checkpoint import load_checkpoint, save_checkpoint
from sooner.recipe import Recipe
from sooner.task import EVALUATION_SEED, Task, derived_seed


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
        cpu_seconds: processor time of the steps, evaluation excluded.
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
        SoonerError: the recipe does not fit the model, or the checkpoint belongs to another run.
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe(recipe)
    steps = task.steps if steps is None else steps
    model = task.model(derived_seed(seed, "init"))
    batches = task.batches(derived_seed(seed, "order"), "train")
    evaluation = task.batches(EVALUATION_SEED, "eval")
    torch.manual_seed(derived_seed(seed, "private"))
    training = recipe.build(model, steps)
    losses = torch.zeros(steps, device=next(model.parameters()).device)
    run = Run(model, [], [], [], losses, None, 0.0, 0)
    identity = {"task": task.name, "recipe": str(recipe), "seed": seed, "steps": steps, "accumulate": accumulate, "clip_norm": clip_norm}
    done = load_checkpoint(checkpoint, identity, training, run) if checkpoint else 0
    due = evaluation_steps(steps, task.evaluations) if evaluate_at is None else set(evaluate_at)

    started = time.process_time()
    for step in range(done, steps + 1):
        if step in due and step not in run.steps:
            run.cpu_seconds += time.process_time() - started
            evaluate(task, training, evaluation, run, step)
            if progress:
                progress(step, run.values[-1])
            if run.diverged_at is not None:
                break
            started = time.process_time()
        if checkpoint and step > done and (step == steps or (save_every and step % save_every == 0)):
            save_checkpoint(checkpoint, identity, training, run, step)
        if step == steps:
            break

        for micro in range(accumulate):
            loss = task.loss(model, batches[step * accumulate + micro])
            (loss / accumulate).backward()
            run.losses[step] += loss.detach() / accumulate  # stays on the device: nothing waits for it
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        training.step()
        training.zero_grad()

    run.state_bytes = training.state_bytes()
    return run


def evaluation_steps(steps: int, evaluations: int) -> set[int]:
    """Return the steps to evaluate at: 0, the last, and evenly between."""
    return {round(i * steps / evaluations) for i in range(evaluations + 1)}


@torch.no_grad()
def evaluate(task: Task, training: Any, evaluation: Any, run: Run, step: int) -> None:
    """Measure the evaluation weights on the whole evaluation split and note where the run diverged, if it did."""
    with training.view() as model:
        model.eval()
        totals: dict[str, Any] = {}
        for i in range(len(evaluation)):
            found = {"loss": task.loss(model, evaluation[i]), **(task.metrics(model, evaluation[i]) if task.metrics else {})}
            for name, value in found.items():
                totals[name] = totals.get(name, 0.0) + value
        model.train()
    run.steps.append(step)
    run.metrics.append({name: float(total) / len(evaluation) for name, total in totals.items()})
    run.values.append(run.metrics[-1][task.metric])
    finite = torch.isfinite(run.losses[:step])
    if not bool(finite.all()):
        run.diverged_at = int((~finite).nonzero()[0]) + 1
    elif not math.isfinite(run.values[-1]) or not math.isfinite(run.metrics[-1]["loss"]):
        run.diverged_at = step
