"""Races of few runs on few examples: where only the machinery is tested, what the numbers say does not matter."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from sooner.claims._claim import Race
from sooner.race import limits

EXAMPLES = 4
SEEDS = 2


@dataclass(frozen=True)
class First:
    """Batches with their first examples only."""

    batches: Any

    def __getitem__(self, step):
        return pytree.tree_map(lambda x: x[:EXAMPLES] if isinstance(x, Tensor) and x.ndim else x, self.batches[step])

    def __len__(self):
        return 1


@dataclass(frozen=True)
class Few:
    """``batches(seed, split)`` of another task, with the first examples of each batch."""

    batches: Callable

    def __call__(self, seed, split):
        return First(self.batches(seed, split))


def few(task):
    """Return the task with few examples to train on and to evaluate with; workers with data of their own keep it."""
    return replace(task, batches=Few(task.batches), spec="", evaluations=limits.LEAST_EVALUATIONS)


def few_seeds(claim):
    """Return the claim with as few racing seeds as are some."""
    races = {name: one for name, one in claim.experiments.items() if isinstance(one, Race)}
    return replace(claim, experiments={**claim.experiments, **{n: replace(r, seeds=SEEDS) for n, r in races.items()}})
