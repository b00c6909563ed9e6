"""The kernel's own counts of what went over an interface."""

from __future__ import annotations

import os
from pathlib import Path

from sooner.error import SoonerError


def counted(interface: str) -> tuple[int, int] | None:
    """Return the bytes received and sent on an interface of this network namespace; None where it is not there.

    ``/sys/class/net`` shows the namespace in which it was mounted, ``/proc/net/dev`` that of the reader.
    """
    try:
        lines = Path("/proc/net/dev").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return None
    for line in lines[2:]:
        name, _, numbers = line.partition(":")
        if name.strip() == interface:
            columns = numbers.split()
            return int(columns[0]), int(columns[8])
    return None


def sent_bytes(interface: str | None = None) -> int:
    """Return the bytes that this rank has sent so far, headers included, as the kernel counted them.

    Args:
        interface: its name; None for the one that `sooner link` gave the rank.

    Raises:
        SoonerError: there is no such interface.
    """
    name = interface or os.environ.get("GLOO_SOCKET_IFNAME", "")
    found = counted(name)
    if found is None:
        raise SoonerError(f"there is no interface {name!r} to count on; run this under `sooner link`, or name one")
    return found[1]
