"""The data of the workers of a simulated cluster: whose batch is which, how much each has, and what is open to it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from sooner.communication._cohort import Cohort, Round
from sooner.error import SoonerError
from sooner.foundation.lanes import Lanes
from sooner.loop.batches import batches_of
from sooner.recipe import Recipe
from sooner.task import Task, derived_seed


class Data:
    """Batches of all workers.

    Args:
        task: what they train.
        cohort: who takes part.
        seed: of the run.
        workers: how many there are.
        recipe: whose data part, if it has one, draws the batches.
        steps: optimizer steps planned.

    Raises:
        SoonerError: the cohort asks for examples, and the task's workers have only batches.
    """

    def __init__(self, task: Task, cohort: Cohort, seed: int, workers: int, recipe: Recipe, steps: int) -> None:
        self._cohort, self._seed, self.workers = cohort, derived_seed(seed, "cohort"), workers
        self._batches = [batches_of(task, recipe, seed, steps, worker, workers) for worker in range(workers)]
        self.open: dict[int, Tensor] = {}
        """Per worker of this round the examples that it draws from; empty where that is all of them, in their order."""
        if (cohort.judges or cohort.by_size) and not hasattr(self._batches[0], "examples"):
            raise SoonerError(
                f"{cohort.name()} has to know each worker's examples, and task {task.name} gives only batches; define "
                "shards(worker, workers, seed) that returns a sooner.task.Shard, and train with at least 2 workers"
            )
        self._sizes = [_size(b.examples) if hasattr(b, "examples") else 1 for b in self._batches]

    def weights(self, active: Tensor) -> Tensor | None:
        """Return (m,) how much each of these workers counts; None for alike."""
        if not self._cohort.by_size:
            return None
        sizes = torch.tensor([self._sizes[worker] for worker in active.tolist()], dtype=torch.float64)
        return sizes / sizes.sum()

    def batches(self, workers: Tensor, step: int) -> list[Any]:
        """Return the batch of each of these workers for optimizer step `step`."""
        return [self._drawn(w, step) if w in self.open else self._batches[w][step] for w in workers.tolist()]

    def next_round(self, number: int, of: float, steps: int, lanes: Lanes, weights: Tensor) -> Round:
        """Return who takes part in round `number`, and let each of them have what is open to it.

        Args:
            number: from 1.
            of: how many rounds there are.
            steps: that everyone is asked for.
            lanes: measure the losses of examples.
            weights: the common ones, ``[d]`` (or ``[n, d]``, of which the mean is measured).
        """
        if not self._cohort.judges:
            return self._cohort.round(number, self.workers, steps, self._seed)
        time = (number - 1) / of
        common = weights if weights.ndim == 1 else weights.mean(0)
        training = lanes.model.training
        lanes.model.eval()
        losses = [lanes.example_losses(common, shard.examples) for shard in self._batches]
        lanes.model.train(training)
        difficulty = torch.stack([one.mean() for one in losses]).cpu()
        made = self._cohort.judged_round(time, difficulty, number, steps, self._seed)
        self.open = {
            worker: self._cohort.exposed(time, losses[worker], self._batches[worker].labels, self._seed + worker)
            for worker in made.active.tolist()
        }
        return made

    def _drawn(self, worker: int, step: int) -> Any:
        """Return a batch of examples that are open to the worker, each at most once where there are enough."""
        shard, among = self._batches[worker], self.open[worker]
        generator = torch.Generator().manual_seed(derived_seed(self._seed, f"worker {worker}, step {step}"))
        passes = -(-shard.batch_size // len(among))
        order = torch.cat([torch.randperm(len(among), generator=generator) for _ in range(passes)])
        chosen = among[order[: shard.batch_size]]
        return pytree.tree_map(lambda leaf: leaf[chosen] if isinstance(leaf, Tensor) else leaf, shard.examples)


def _size(examples: Any) -> int:
    return next(len(leaf) for leaf in pytree.tree_leaves(examples) if isinstance(leaf, Tensor))
