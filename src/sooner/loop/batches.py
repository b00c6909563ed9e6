"""The training batches of a run: the task's own, or what a recipe's data part draws from the task's examples."""

from __future__ import annotations

from typing import Any

from sooner.error import SoonerError
from sooner.recipe import Recipe
from sooner.task import Examples, Task, derived_seed, worker_batches

HELD_OUT = 2**40
"""Number from which on batches of the training split are kept for parts that check themselves (see `Objective`)."""


def batches_of(task: Task, recipe: Recipe, seed: int, steps: int, worker: int = 0, workers: int = 1) -> Any:
    """Return the training batches of one of several workers on the run with this seed, indexed by step.

    Args:
        task: where the data are from.
        recipe: whose data part, if it has one, draws them.
        seed: of the run.
        steps: batches of the whole run.
        worker: this one's number.
        workers: how many there are.

    Raises:
        SoonerError: a data part, and the task's examples can't be drawn from.
    """
    plain = worker_batches(task, seed, worker, workers)
    drawing = [s.name for s in recipe.slots if s.station == "data"]
    if not drawing:
        return plain
    if task.examples is None:
        raise SoonerError(
            f"{drawing[0]} draws single examples, and task {task.name} gives only batches; define examples"
        )
    if task.shards is not None and workers > 1:
        raise SoonerError(
            f"{drawing[0]} draws from the data of all workers, and those of task {task.name} have data of their own; "
            "leave it out, or train one worker"
        )
    examples = task.examples("train")
    return Drawn(examples, recipe.sampler(examples, steps, derived_seed(seed, "order"), worker, workers), plain)


class Drawn:
    """Batches of examples that a sampler has chosen; those held out are the task's own."""

    def __init__(self, examples: Examples, sampler: Any, plain: Any) -> None:
        self._examples, self._sampler, self._plain = examples, sampler, plain

    def __getitem__(self, step: int) -> Any:
        """Return the batch of a step."""
        if step >= HELD_OUT:
            return self._plain[step]
        return self._examples.batch(self._sampler[step])
