"""Options of the race command that say where runs take place, as a plan of a workload takes them."""

from __future__ import annotations

import os
from typing import Any

from sooner.error import SoonerError
from sooner.race.places import device_of, places, refuse_missing


def place(
    jobs: int | None,
    *,
    device: str,
    gpus: str | None,
    gpus_per_run: int,
    silence: float | None,
    workers: int,
    world: int,
    **options: Any,
) -> dict[str, Any]:
    """Return all options, with jobs, device and places as the plan takes them.

    Args:
        jobs: as typed; None for one per place, or per core and process of a run.
        device: as typed.
        gpus: as typed.
        gpus_per_run: as typed.
        silence: as typed.
        workers: of a simulated cluster, which is on the processor.
        world: processes of a run, which are too.
        options: all others, as they are.

    Raises:
        SoonerError: a device that is not here, or numbers that do not go together.
    """
    if silence is not None and silence <= 0:
        raise SoonerError(f"--silence {silence:g} must be above 0 seconds")
    device = "cpu" if device == "auto" and max(workers, world) > 1 else device_of(device)
    refuse_missing(device)
    slots = places(gpus, gpus_per_run, device)
    if jobs is None:
        jobs = len(slots) or max(1, (os.cpu_count() or 1) // max(1, world))
    made = {"device": device, "slots": slots, "silence": silence, "workers": workers, "world": world}
    return {**options, **made, "jobs": jobs}
