"""Where a result comes from: versions, machine and date, recorded with every race."""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from sooner.version import __version__


def versions() -> dict[str, str]:
    """Return the versions that decide a run's numbers, without importing the packages."""
    installed = {name: importlib.metadata.version(name) for name in ("torch", "numpy")}
    return {"sooner": __version__, "python": platform.python_version(), **installed}


@functools.cache
def processor() -> str:
    """Return the processor's name; results are bit-identical only on the same kind."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def accelerator(device: str) -> str:
    """Return the name of a device that is not the processor."""
    import torch

    return torch.cuda.get_device_name() if device == "cuda" and torch.cuda.is_available() else device


def machine() -> dict[str, Any]:
    """Return the machine a race ran on."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "system": platform.platform(terse=True),
    }


def now() -> str:
    """Return the present time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
