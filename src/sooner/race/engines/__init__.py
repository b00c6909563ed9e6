"""The engines that run the cells of a race: processes on this machine, or a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sooner.error import SoonerError, nearest
from sooner.race.engines.processes import SILENCE_SECONDS, Processes

if TYPE_CHECKING:
    from sooner.race.engines.ray import Ray

NAMES = ("processes", "ray")


def engine(
    name: str,
    *,
    jobs: int | None = None,
    address: str | None = None,
    cpus: int = 1,
    gpus: int = 0,
    silence: float | None = None,
    slots: Sequence[Mapping[str, str]] = (),
) -> Processes | Ray:
    """Return an engine by its name, to be used in a ``with``.

    Args:
        name: one of `NAMES`.
        jobs: how many cells run at once at most; None for one on every core, or all for which a Ray cluster has room.
        address: of a Ray cluster, see `Ray`.
        cpus: that a cell takes of a node of a Ray cluster.
        gpus: that it takes and sees there.
        silence: seconds without a sign of life after which a worker is ended; None for the default.
        slots: places of worker processes on this machine, see `Processes`.

    Raises:
        SoonerError: an unknown name, Ray is not installed, or options that do not go together.
    """
    if name not in NAMES:
        raise SoonerError(f"engine {name!r} is unknown{nearest(name, NAMES)}; choose {' or '.join(NAMES)}")
    patience = SILENCE_SECONDS if silence is None else silence
    if name == "ray":
        from sooner.race.engines.ray import Ray

        return Ray(jobs, address=address, cpus=cpus, gpus=gpus, silence_seconds=patience)
    if address is not None:
        raise SoonerError(f"the address {address} is that of a Ray cluster; name the engine too: ray")
    return Processes((os.cpu_count() or 1) if jobs is None else jobs, silence_seconds=patience, slots=slots)
