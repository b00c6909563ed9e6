"""What a process does with one cell of a race: train a model, or measure a step's cost. Returns plain numbers."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sooner.cluster import train_cluster
from sooner.error import SoonerError
from sooner.loop import Run, train
from sooner.loop.workers import Report as Together
from sooner.objective import Found
from sooner.race.cost import measure_blocks, measure_memory
from sooner.task import Task
from sooner.task.by_value import unpack
from sooner.task.placing import placed
from sooner.workloads import find

Report = Callable[..., None]


def run_alone(payload: dict[str, Any], report: Report) -> dict[str, Any]:
    """Run one cell in this process, which may be one of several at it."""
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
        report(step / steps, {"value": value, "step": step})

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
        **({} if run.together is None else {"communication": _communication(run, run.together)}),
    }


def _communication(run: Run, together: Together) -> dict[str, Any]:
    """Return what one of several processes has sent, in the words of a simulated cluster."""
    steps = max(run.steps[-1], 1)
    return {
        "payload_bytes_per_step": together.payload_bytes[-1] / steps,
        "wire_bytes_per_step": together.wire_bytes[-1] / steps,
        "gradients_per_step": together.gradients_per_step,
        "error": math.nan if together.error is None else together.error,
        "consensus": together.consensus,
        "replicas": run.values[-1] if together.replicas is None else together.replicas,
        "sent": together.wire_bytes,
    }


def _with_heartbeat(task: Task, report: Report) -> Task:
    @functools.wraps(task.loss)
    def loss(model: Any, batch: Any) -> Found:
        report(0.0)
        found: Found = task.loss(model, batch)
        return found

    return replace(task, loss=loss)


@functools.lru_cache(maxsize=4)
def _found(spec: str, digest: str) -> Task:
    task = find(spec)
    if hashlib.sha256(task.source.encode()).hexdigest() != digest:
        raise SoonerError(f"{spec} changed while the race was running; put the old file back or start a new race")
    return task


def _task(
    task: Task | None = None,
    spec: str = "",
    digest: str = "",
    size: float = 1,
    device: str = "cpu",
    amp: str | None = None,
    packed: bytes | None = None,
) -> Task:
    if packed is not None:
        task = unpack(packed)
    return placed(_found(spec, digest).at(size) if task is None else task, device, amp)
