"""Processor time of a process and of those it has started: tells a worker that imports or compiles from a dead one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds(pid: int) -> float | None:
    """Return the seconds that a process, its descendants and its buried children have computed; None without /proc."""
    total, seen = 0.0, False
    waiting = [pid]
    while waiting:
        folder = Path("/proc") / str(waiting.pop())
        with suppress(OSError, ValueError, IndexError):
            fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            total += sum(map(int, fields[11:15])) / _TICKS  # user and system, its own and of children it waited for
            seen = True
            for thread in (folder / "task").iterdir():
                waiting += map(int, (thread / "children").read_text(encoding="ascii").split())
    return total if seen else None
