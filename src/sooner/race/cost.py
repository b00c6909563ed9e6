"""What a step costs, measured apart from the race in short blocks: contenders interleaved, minimum of repeats.

On a shared machine the same run can take three times as long a minute later, so wall time is believed only when a
calibration kernel timed beside every block stays steady and the process gets its whole core.
"""

from __future__ import annotations

import gc
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sooner.communication._group import Group
from sooner.communication._wire import Traffic
from sooner.loop import objective_of, provided_by
from sooner.loop.batches import batches_of
from sooner.recipe import Recipe
from sooner.task import EVALUATION_SEED, Task, derived_seed

ROUNDS = 7
_BLOCK_SECONDS = 0.25
_SEED = 50_000  # neither for tuning nor for racing


def measure_blocks(task: Task, recipes: list[str], steps: int) -> dict[str, Any]:
    """Time every recipe in turn, `ROUNDS` times over. Among several workers all of them call this together.

    Returns:
        ``blocks``: per recipe the wall milliseconds per step of each round; ``calibration``: milliseconds of the
        calibration kernel before each block; ``share``: wall over processor time of each block (1 when the core was
        ours), less the time spent waiting for other workers. With several workers also ``encode`` and ``wait``, laid
        out like ``blocks``.
    """
    group = Group()
    steppers = [_stepper(task, text, steps) for text in recipes]
    lengths = [group.tell(_block_length(step))[0] for step, _ in steppers]
    blocks: list[list[float]] = [[] for _ in recipes]
    parts: dict[str, list[list[float]]] = {"encode": [[] for _ in recipes], "wait": [[] for _ in recipes]}
    calibration: list[float] = []
    share: list[float] = []
    calibrate()
    for _ in range(ROUNDS):
        for i, ((step, traffic), length) in enumerate(zip(steppers, lengths, strict=True)):
            calibration.append(calibrate())
            group.tell(None)  # all begin together
            before = replace(traffic)
            clock = time.process_time if group.size == 1 else time.thread_time  # without the threads that send
            _finish()
            wall, cpu = time.perf_counter(), clock()
            for _ in range(length):
                step()
            _finish()
            wall, cpu = time.perf_counter() - wall, clock() - cpu
            encode = traffic.encode_seconds - before.encode_seconds
            wait = traffic.wait_seconds - before.wait_seconds
            blocks[i].append(1000 * wall / length)
            parts["encode"][i].append(1000 * encode / length)
            parts["wait"][i].append(1000 * wait / length)
            share.append((wall - wait) / cpu)
    found = {"blocks": blocks, "calibration": calibration, "share": share}
    return found if group.size == 1 else found | parts


def contention(measured: dict[str, Any]) -> str | None:
    """Return why the timing can't be believed, in half a sentence, or None when the machine was quiet."""
    if "why" in measured:
        return measured["why"]  # type: ignore[no-any-return]  # it has been judged where it was read from runs
    drift = statistics.median(measured["calibration"]) / min(measured["calibration"])
    share = statistics.median(measured["share"])
    if share > 1.2:
        return f"other processes took part of the core (wall time was {share:.2f}x processor time)"
    if drift > 1.2:
        return f"the calibration kernel ran {drift:.2f}x slower than at its best"
    return None


def measure_memory(task: Task, recipe: str, steps: int) -> dict[str, Any]:
    """Return the peak MiB that one evaluation and a few steps add to a fresh process (or use on the accelerator)."""
    # what PyTorch itself sets up at the first backward is not the recipe's
    torch.autograd.backward(torch.nn.Linear(8, 8)(torch.zeros(1, 8)).sum())
    before = _start_peak()
    step, _ = _stepper(task, recipe, steps)
    for _ in range(3):
        step()
    return {"peak_memory_mib": max(0.0, _peak() - before)}


def _stepper(task: Task, recipe: str, steps: int) -> tuple[Callable[[], None], Traffic]:
    """Return what takes a step, and the counts of what that sends."""
    model = task.model(derived_seed(_SEED, "init"))
    group = Group()
    batches = batches_of(task, Recipe(recipe), _SEED, steps, group.rank, group.size)
    evaluation = task.batches(EVALUATION_SEED, "eval")
    training = Recipe(recipe).build(model, steps, provided_by(task), seed=derived_seed(_SEED, "surgery"))
    model = training.model
    with torch.no_grad():
        task.loss(model, evaluation[0])
    taken = 0

    def step() -> None:
        nonlocal taken
        objective = objective_of(task, model, batches, taken % steps)
        training.backward(objective)
        training.step(objective)
        training.zero_grad()
        taken += 1

    return step, Traffic() if training.communication is None else training.communication.wire.traffic


def _block_length(step: Callable[[], None]) -> int:
    for _ in range(3):
        step()  # the first steps allocate
    _finish()
    start = time.perf_counter()
    for _ in range(3):
        step()
    _finish()
    return max(3, min(500, round(3 * _BLOCK_SECONDS / (time.perf_counter() - start))))


def _finish() -> None:
    """Wait until the accelerator has done what it was given, if there is one at work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def calibrate() -> float:
    """Return milliseconds of a fixed kernel: the fastest of three, so that only lasting contention shows."""
    matrix = torch.ones(192, 192)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(20):
            torch.mm(matrix, matrix)
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def _start_peak() -> float:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated() / 2**20
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5", encoding="ascii")  # Linux: forget the peak so far
    return _peak()


def _peak() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii")) if status.exists() else None
    if found:
        return int(found.group(1)) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)
