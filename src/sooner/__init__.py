"""sooner: reach the training target sooner, and prove it.

Parts are published methods as ordinary PyTorch objects (`sooner.update`, `sooner.schedule`), a `Recipe` combines them,
`sooner.train` is the reference loop and `sooner.race` the referee. Importing this package is cheap; PyTorch is loaded
on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sooner.error import SoonerError
from sooner.version import __version__

if TYPE_CHECKING:
    from types import ModuleType

    from sooner import (
        adapter,
        communication,
        data,
        decoding,
        diffusion,
        execute,
        gradient,
        loss,
        memory,
        model,
        precision,
        rl,
        schedule,
        space,
        update,
        watch,
        weights,
    )
    from sooner.contending import contender
    from sooner.judging import judge
    from sooner.loop import Run, train
    from sooner.racing import race as _race
    from sooner.recipe import Recipe, create_optimizer, explain, slot
    from sooner.task import Task
    from sooner.workloads import find as workload

    class _RacePackage(ModuleType):  # what `sooner.race.__init__` makes of itself
        __call__ = staticmethod(_race)

    race: _RacePackage

__all__ = [
    "Recipe",
    "Run",
    "SoonerError",
    "Task",
    "__version__",
    "adapter",
    "communication",
    "contender",
    "create_optimizer",
    "data",
    "decoding",
    "diffusion",
    "execute",
    "explain",
    "gradient",
    "judge",
    "loss",
    "memory",
    "model",
    "precision",
    "race",
    "rl",
    "schedule",
    "slot",
    "space",
    "train",
    "update",
    "watch",
    "weights",
    "workload",
]

_HOMES = {
    "Recipe": "sooner.recipe",
    "create_optimizer": "sooner.recipe",
    "explain": "sooner.recipe",
    "slot": "sooner.recipe",
    "Task": "sooner.task",
    "judge": "sooner.judging",
    "contender": "sooner.contending",
    "Run": "sooner.loop",
    "train": "sooner.loop",
}


def __getattr__(name: str) -> Any:
    if name == "workload":
        return importlib.import_module("sooner.workloads").find
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in __all__:  # the others are packages
        return importlib.import_module(f"sooner.{name}")
    raise AttributeError(f"module 'sooner' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
