"""Options of the race command that say where runs take place, as a plan takes them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from sooner.error import SoonerError
from sooner.race.engines import engine as named
from sooner.race.places import device_of, places, refuse_missing
from sooner.race.planned import Planned


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
    """Return all options of a race of a workload, with jobs, device and places as the plan takes them.

    Args:
        jobs: as typed; None for one per place, or per core and process of a run.
        device: as typed.
        gpus: as typed.
        gpus_per_run: as typed.
        silence: as typed.
        workers: of a simulated cluster, which is on the processor.
        world: processes of a run, which are too.
        options: all others, as they are, and those of `seated`.

    Raises:
        SoonerError: a device that is not here, or numbers that do not go together.
    """
    if silence is not None and silence <= 0:
        raise SoonerError(f"--silence {silence:g} must be above 0 seconds")
    device = "cpu" if device == "auto" and max(workers, world) > 1 else device_of(device)
    refuse_missing(device)
    made = {"device": device, "silence": silence, "workers": workers, "world": world}
    return seated(jobs, gpus=gpus, gpus_per_run=gpus_per_run, **{**options, **made})


def seated(
    jobs: int | None,
    *,
    engine: str,
    address: str | None,
    cpus_per_run: int | None,
    gpus: str | None,
    gpus_per_run: int,
    device: str,
    silence: float | None,
    world: int = 1,
    **options: Any,
) -> dict[str, Any]:
    """Return options with `jobs`, `slots` and `pool`, which is None for processes as the plan starts them itself.

    Args:
        jobs: as typed; None for one per place, or per core and process of a run.
        engine: as typed.
        address: as typed.
        cpus_per_run: as typed; None for one for each process of a run.
        gpus: as typed.
        gpus_per_run: as typed.
        device: as `device_of` returns it.
        silence: as typed.
        world: processes of a run.
        options: all others, as they are.

    Raises:
        SoonerError: an unknown engine, or options that do not go together.
    """
    made = {**options, "device": device, "silence": silence, "world": world}
    if engine != "processes":
        if gpus is not None:
            raise SoonerError(f"--gpus {gpus} names devices of this machine; --engine {engine} places runs itself")
        count = gpus_per_run if device == "cuda" else 0
        cpus = world if cpus_per_run is None else cpus_per_run
        pool = named(engine, jobs=jobs, address=address, cpus=cpus, gpus=count, silence=silence)
        return {**made, "slots": [], "jobs": 1 if jobs is None else jobs, "pool": pool}
    for option, value in (("--address", address), ("--cpus-per-run", cpus_per_run)):
        if value is not None:
            raise SoonerError(f"{option} {value} goes with --engine ray")
    slots = places(gpus, gpus_per_run, device)
    if jobs is None:
        jobs = len(slots) or max(1, (os.cpu_count() or 1) // max(1, world))
    return {**made, "slots": slots, "jobs": jobs, "pool": None}


@contextlib.contextmanager
def opened(pool: Any, *plans: Planned) -> Iterator[Any]:
    """Start an engine and end it afterwards; the plans are told how many cells it runs at once.

    Args:
        pool: of `seated`, None for what plans start themselves.
        plans: to be run.
    """
    with contextlib.nullcontext() if pool is None else pool:
        for plan in plans if pool is not None else ():
            plan.jobs = pool.jobs
        yield pool
