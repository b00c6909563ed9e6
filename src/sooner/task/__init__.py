"""A task: the functions ``model(seed)``, ``batches(seed, split)``, ``loss(model, batch)`` and a budget of steps.

Nothing to subclass, and the batch is opaque: only the task's own `loss` and `metrics` look inside it.
"""

from sooner.task._task import EVALUATION_SEED, OPTIONS, Shard, Task
from sooner.task.checking import check
from sooner.task.examples import Examples, Passes
from sooner.task.reading import from_file, from_module
from sooner.task.seeds import derived_seed, worker_batches, worker_seed

__all__ = [
    "EVALUATION_SEED",
    "OPTIONS",
    "Examples",
    "Passes",
    "Shard",
    "Task",
    "check",
    "derived_seed",
    "from_file",
    "from_module",
    "worker_batches",
    "worker_seed",
]
