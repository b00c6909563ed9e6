"""Races of few runs on few examples: where only the machinery is tested, what the numbers say does not matter."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from sooner.claims._claim import Race
from sooner.race import limits

EXAMPLES = 3
TOKENS = 17
SEEDS = 2
_found = {}


def fewer(x):
    """Return the first examples, and of a text its beginning."""
    if not isinstance(x, Tensor) or not x.ndim:
        return x
    text = x.ndim == 2 and not x.is_floating_point() and x.shape[1] > 2 * TOKENS
    return x[:EXAMPLES, :TOKENS] if text else x[:EXAMPLES]


@dataclass(frozen=True)
class First:
    """Batches with their first examples only."""

    batches: Any

    def __getitem__(self, step):
        return pytree.tree_map(fewer, self.batches[step])

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
    """Return the claim with as few racing seeds as are some, and each case measured once."""
    races = {name: one for name, one in claim.experiments.items() if isinstance(one, Race)}
    small = {**claim.experiments, **{n: replace(r, seeds=SEEDS) for n, r in races.items()}}
    return replace(claim, experiments={name: measured_once(one) for name, one in small.items()})


def measured_once(experiment):
    """Return a measurement that remembers what it found, as its values follow from the case; a race as it is."""
    if isinstance(experiment, Race):
        return experiment

    @functools.wraps(experiment.measure)
    def measure(**case):
        key = experiment.measure, json.dumps(case, sort_keys=True)
        if key not in _found:
            _found[key] = experiment.measure(**case)
        return _found[key]

    return replace(experiment, measure=measure)
