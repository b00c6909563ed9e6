"""The seeds of a run's separate streams, and the batches that each of several workers gets."""

from __future__ import annotations

import hashlib
from typing import Any

from sooner.task._task import Task


def derived_seed(seed: int, purpose: str) -> int:
    """Return the seed of one of a run's separate streams: "init", "order", or "private" for a method's own noise."""
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1  # 31 bits: every library takes it


def worker_seed(seed: int, purpose: str, worker: int) -> int:
    """Return the seed of a stream of one of several workers on one run; worker 0 has the stream of a single one."""
    return derived_seed(seed, purpose if worker == 0 else f"{purpose} of worker {worker}")


def worker_batches(task: Task, seed: int, worker: int, workers: int) -> Any:
    """Return the training batches of one of several workers on the run with this seed."""
    if task.shards is not None and workers > 1:
        return task.shards(worker, workers, derived_seed(seed, "order"))
    return task.batches(worker_seed(seed, "order", worker), "train")
