"""What a worker process does with one cell: train a model, or measure what a step costs. Returns plain numbers."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from sooner.cluster import train_cluster
from sooner.error import SoonerError
from sooner.loop import Run, train
from sooner.race.cost import measure_blocks, measure_memory
from sooner.task import Task
from sooner.workloads import find

Report = Callable[..., None]


def run_cell(payload: dict[str, Any], report: Report) -> dict[str, Any]:
    """Run one cell; `report` is called often, as a sign of life."""
    task = _with_heartbeat(_task(**payload["task"]), report)
    match payload["do"]:
        case "train":
            return _train(task, payload, report)
        case "blocks":
            return measure_blocks(task, payload["recipes"], payload["steps"])
        case _:
            return measure_memory(task, payload["recipe"], payload["steps"])


def _train(task: Task, payload: dict[str, Any], report: Report) -> dict[str, Any]:
    steps = payload["steps"]

    def progress(step: int, value: float) -> None:
        report(step / steps, {"value": value})

    common = {"evaluate_at": payload["evaluate_at"], "progress": progress}
    if "workers" in payload:
        return _train_cluster(task, payload, common)
    return _numbers(train(task, payload["recipe"], payload["seed"], steps, **common))


def _train_cluster(task: Task, payload: dict[str, Any], common: dict[str, Any]) -> dict[str, Any]:
    run = train_cluster(task, payload["recipe"], payload["seed"], payload["steps"], payload["workers"], **common)
    steps = max(run.steps[-1], 1)
    return {
        **_numbers(run),
        "communication": {
            "payload_bytes_per_step": run.traffic.payload_bytes / steps,
            "wire_bytes_per_step": run.traffic.wire_bytes / steps,
            "messages_per_step": run.traffic.messages / steps,
            "gradients_per_step": run.gradients,
            "error": run.errors[-1],
            "consensus": run.consensus[-1],
            "drift": run.drift[-1],
            "replicas": run.replicas[-1],
            "seconds": run.seconds,
        },
    }


def _numbers(run: Run) -> dict[str, Any]:
    return {
        "steps": run.steps,
        "values": run.values,
        "diverged_at": run.diverged_at,
        "cpu_seconds": run.cpu_seconds,
        "state_bytes": run.state_bytes,
        "metrics": run.metrics[-1],
    }


def _with_heartbeat(task: Task, report: Report) -> Task:
    @functools.wraps(task.loss)
    def loss(model: Any, batch: Any) -> Tensor:
        report(0.0)
        return task.loss(model, batch)

    return replace(task, loss=loss)


@functools.lru_cache(maxsize=4)
def _found(spec: str, digest: str) -> Task:
    task = find(spec)
    if hashlib.sha256(task.source.encode()).hexdigest() != digest:
        raise SoonerError(f"{spec} changed while the race was running; put the old file back or start a new race")
    return task


def _task(task: Task | None = None, spec: str = "", digest: str = "") -> Task:
    return _found(spec, digest) if task is None else task
