"""Which executor runs: chosen by ``$SOONER_EXECUTOR``, or for a while by `using`."""

from __future__ import annotations

import contextlib
import contextvars
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from sooner.error import SoonerError, nearest
from sooner.execute.eager import run_eager
from sooner.execute.inductor import run_inductor
from sooner.execute.native import run_native
from sooner.execute.triton import run_triton, serves
from sooner.execute.work import Work


def run_auto(work: Sequence[Work]) -> None:
    """Take one step for every cohort with what is fastest where they are."""
    devices = [w.cohort.device for w in work]
    there = bool(devices) and all(device.type == "cuda" and serves(device) for device in devices)
    run_fastest = run_triton if there else run_native
    run_fastest(work)


EXECUTORS: Mapping[str, Callable[[Sequence[Work]], None]] = {
    "auto": run_auto,
    "eager": run_eager,
    "native": run_native,
    "inductor": run_inductor,
    "triton": run_triton,
}

_chosen: contextvars.ContextVar[str | None] = contextvars.ContextVar("executor", default=None)


def run(work: Sequence[Work]) -> None:
    """Take one step for every cohort with the executor of the moment.

    Raises:
        SoonerError: ``$SOONER_EXECUTOR`` names no executor.
    """
    try:
        EXECUTORS[_checked(_chosen.get() or os.environ.get("SOONER_EXECUTOR") or "auto")](work)
    finally:
        for one in work:
            one.cohort.release()


@contextlib.contextmanager
def using(executor: str) -> Iterator[None]:
    """Inside, optimizers of sooner step with this executor: "auto", "eager", "native", "inductor" or "triton".

    Raises:
        SoonerError: there is no such executor.
    """
    token = _chosen.set(_checked(executor))
    try:
        yield
    finally:
        _chosen.reset(token)


def _checked(name: str) -> str:
    if name not in EXECUTORS:
        raise SoonerError(f"there is no executor {name!r}{nearest(name, EXECUTORS)}; choose {', '.join(EXECUTORS)}")
    return name
