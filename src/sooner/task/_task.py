"""What a task is: three functions and a budget, and what else it may say."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import Tensor, nn

from sooner.error import SoonerError
from sooner.objective import Found
from sooner.task.examples import Examples
from sooner.task.streams import Streamed

EVALUATION_SEED = 0
"""The evaluation split is always asked for with this seed, so that every run is measured on the same data."""
OPTIONS = (
    "steps",
    "metric",
    "higher_is_better",
    "evaluations",
    "metrics",
    "losses",
    "fingerprint",
    "shards",
    "examples",
    "provides",
)


class Shard(Protocol):
    """Training data of one worker, all of it at hand.

    Attributes:
        examples: a batch of all its examples; dimension 0 of its tensors counts them.
        batch_size: examples in a batch.
        labels: (N,) the class of each example, None where there are none.
    """

    examples: Any
    batch_size: int
    labels: Tensor | None

    def __getitem__(self, step: int) -> Any:
        """Return the batch of a step."""


@dataclass(frozen=True)
class Task:
    """What to train, as three functions and a budget.

    Args:
        model: ``model(seed) -> nn.Module``, a function of the seed alone; or ``model(seed, size=1)``, which has about
            `size` times the parameters of ``model(seed)``, for races at several sizes (see `at`).
        batches: ``batches(seed, split)`` with split "train" or "eval"; what it returns is indexed by step. The "eval"
            split has a length. A DataLoader, or any iterable, will do; resuming one skips what was seen, and waits.
        loss: ``loss(model, batch) -> 0-d tensor`` to minimise, a mean over the batch; or ``(sum, count)``, what was
            added up and how many tokens or samples that is of, so that all of a step's count alike.
        steps: budget in optimizer steps.
        metrics: optional ``metrics(model, batch) -> {name: number}``, averaged over the evaluation batches; a metric
            may be ``(sum, count)`` too.
        losses: optional ``losses(model, batch) -> {name: 0-d tensor}``, the terms that `loss` adds up, for parts that
            weigh them against each other; ``(sum, count)`` each, with the count of the loss, where that counts.
        metric: what a race compares, "loss" or a key of `metrics`.
        higher_is_better: whether larger values of the metric are better.
        evaluations: number of evaluations over a run, evenly spaced.
        fingerprint: optional ``fingerprint() -> str``, says in words which data this is.
        shards: optional ``shards(worker, workers, seed)``, training batches of one of several workers that have data of
            their own, indexed by step; the seed is the same for all of them. Without it they draw from common data.
            Parts that ask how much a worker has, or which of it is hard, need `Shard` of it.
        examples: optional ``examples(split) -> sooner.task.Examples``, the data of a split example by example, for
            parts that choose which of them a step sees. With domains, say ``provides = {"domains"}`` too. A file that
            defines it needs no `batches`; then training goes through shuffled passes.
        provides: what the loss offers to parts of its domain, such as ``{"flow times"}``
            (`sooner.objective.FROM_TASKS`); default nothing.
        name: short name for tables.
        spec: how another process finds the task again: a bundled name or a path; empty for a task made in Python.
        description: one sentence.
        source: text of the file that defines the task, part of its identity.
        size: how many times as large as the task's own this model is; set by `at`.
    """

    model: Callable[..., nn.Module]
    batches: Callable[[int, str], Any]
    loss: Callable[[nn.Module, Any], Any]
    steps: int
    metrics: Callable[[nn.Module, Any], Mapping[str, Any]] | None = None
    losses: Callable[[nn.Module, Any], Mapping[str, Found]] | None = None
    metric: str = "loss"
    higher_is_better: bool = False
    evaluations: int = 25
    fingerprint: Callable[[], str] | None = None
    shards: Callable[[int, int, int], Any] | None = None
    examples: Callable[[str], Examples] | None = None
    provides: frozenset[str] = frozenset()
    name: str = "task"
    spec: str = ""
    description: str = ""
    source: str = ""
    size: float = 1

    def __post_init__(self) -> None:
        where = f"task {self.name}"
        for option in ("steps", "evaluations"):
            value = getattr(self, option)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SoonerError(f"{where}: {option} = {value!r} must be a whole number of at least 1")
        for option in ("metrics", "losses", "fingerprint", "shards", "examples"):
            value = getattr(self, option)
            if value is not None and not callable(value):
                raise SoonerError(f"{where}: {option} = {value!r} must be a function; define it or leave it out")
        words: Any = self.provides
        if isinstance(words, str) or not isinstance(words, Iterable) or not all(isinstance(w, str) for w in words):
            raise SoonerError(f"{where}: provides = {words!r} must be a set of texts, such as {{'flow times'}}")
        object.__setattr__(self, "provides", frozenset(words))
        if not isinstance(self.batches, Streamed) and callable(self.batches):
            object.__setattr__(self, "batches", Streamed(self.batches))

    @property
    def sizable(self) -> bool:
        """Whether the model may be asked for at other sizes: `model` takes `size`, which is 1 where nobody says it."""
        try:
            size = inspect.signature(self.model).parameters.get("size")
        except (TypeError, ValueError):  # no signature, as of some compiled functions
            return False
        return size is not None and size.kind is not size.POSITIONAL_ONLY and size.default == 1

    def at(self, size: float) -> Task:
        """Return this task with a model of about `size` times the parameters; at 1 the task itself.

        Raises:
            SoonerError: the size is no positive number, or the model takes none.
        """
        if isinstance(size, bool) or not isinstance(size, int | float) or not 0 < size < math.inf:
            raise SoonerError(f"size {size!r} is not a positive number; give 2 for twice the parameters")
        if size == 1:
            return self
        if not self.sizable:
            raise SoonerError(
                f"task {self.name}: model(seed) takes no size whose default is 1, so it can't be made {size:g} times "
                "as large; write model(seed, size=1), with about size times the parameters"
            )
        plain = self.model
        sized = functools.partial(plain, size=int(size) if size == int(size) else size)
        functools.update_wrapper(sized, plain)  # it is still known by its file, which workers import
        return replace(self, model=sized, size=size)
