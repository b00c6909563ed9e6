"""Races of few runs on few examples: where only the machinery is tested, what the numbers say does not matter."""

import functools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from sooner.claims._claim import Race
from sooner.race import limits
from sooner.workloads._seeded import Stream

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


@functools.lru_cache(maxsize=2048)
def _drawn(make, given, step):
    """Return the first examples of a batch of a bundled task, which follows from what it is made with."""
    return copied(few_of(make(*given, step)))


def copied(batch):
    """Return the batch with tensors of its own."""
    return pytree.tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, batch)


def few_of(batch):
    """Return the batch with its first examples only."""
    return pytree.tree_map(fewer, batch)


@dataclass(frozen=True)
class First:
    """Batches with their first examples only."""

    batches: Any

    def __getitem__(self, step):
        make = getattr(self.batches, "make", None)
        here = 0 <= step < getattr(self.batches, "count", math.inf)
        if isinstance(self.batches, Stream) and isinstance(make, functools.partial) and not make.keywords and here:
            # drawn once for all runs, of which each gets tensors of its own
            return copied(_drawn(make.func, make.args, step))
        return few_of(self.batches[step])

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
