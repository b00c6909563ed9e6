"""`sooner train`: one run of the reference loop, alone or, under torchrun, together with other processes."""

from __future__ import annotations

import os
import time

from rich.console import Console

from sooner.communication import _world
from sooner.communication._lookout import RankLostError, lookout
from sooner.error import SoonerError
from sooner.loop import Run, train
from sooner.recipe import Recipe
from sooner.report.numbers import byte_size, number
from sooner.workloads import find

DEFAULT_OPTIMIZER = "adamw"


def run_training(workload: str, parts: str, *, seed: int, steps: int | None, timeout: float, **options: object) -> None:
    """Train, and print evaluations and the traffic on the first worker.

    Of several workers every one ends with exit code 2 where something is wrong.

    Raises:
        SoonerError: anything the user can mend, and a worker that is lost; of several survivors the first says so.
    """
    console = Console(highlight=False)

    def show(step: int, value: float) -> None:
        console.print(f"step {step}: {task.metric} {number(value, 5)}")

    try:
        task = find(workload)
        recipe = _recipe(parts)
        if int(os.environ.get("RANK") or 0) == 0:
            console.print(f"{task.name}: {recipe}", markup=False, soft_wrap=True)
        run = train(task, recipe, seed, steps, progress=show, timeout=timeout, **options)  # type: ignore[arg-type]
        if (watch := lookout()) is None or watch.rank == 0:
            _tell(console, run)
    except SoonerError as error:
        if _world.size() == 1:
            raise
        _leave(error)
    if _world.size() > 1:
        _world.part()


def _recipe(parts: str) -> Recipe:
    """Return the recipe; parts that move no weights are added to the default optimizer."""
    try:
        return Recipe(parts)
    except SoonerError as error:
        if "no part that moves the weights" not in str(error):
            raise
    return Recipe(f"{DEFAULT_OPTIMIZER} + {parts}")


def _tell(console: Console, run: Run) -> None:
    if run.diverged_at is not None:
        console.print(f"the loss was lost (NaN or infinite) at step {run.diverged_at}")
    together = run.together
    if together is not None and together.workers > 1:
        steps = max(run.steps[-1], 1)
        console.print(
            f"{together.workers} workers; each sent {byte_size(together.wire_bytes[-1])}, "
            f"{byte_size(together.wire_bytes[-1] / steps)} a step; of {number(together.step_seconds)} s, "
            f"{number(together.wait_seconds)} s waiting and {number(together.encode_seconds)} s encoding"
        )


def _leave(error: SoonerError) -> None:
    """End this process at once: what is left of the process group would wait for the rank that is lost."""
    watch = lookout()
    if not isinstance(error, RankLostError) and int(os.environ.get("RANK") or 0) > 0:
        time.sleep(
            2.0
        )  # what is wrong everywhere is told by the first, whose end torchrun answers by ending the others
    if not isinstance(error, RankLostError) or watch is None or watch.speaks:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"sooner: {error}", markup=False)
    os._exit(2)
