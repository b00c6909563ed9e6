"""Connecting to a Ray cluster, or starting one on this machine, with a sentence where that can't be."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

from sooner.error import SoonerError

_REACH_SECONDS = 10.0
_LOCAL_STORE_BYTES = 100 * 2**20


def address_of(address: str | None) -> str | None:
    """Return the cluster's address, of RAY_ADDRESS where none is given, None for a cluster on this machine.

    Raises:
        SoonerError: it is one for clients from outside.
    """
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address and address.startswith("ray://"):
        raise SoonerError(
            f"--address {address}: a race runs on a node of its cluster, where its address is HOST:PORT or auto; "
            "start it there, such as with `ray job submit`"
        )
    return address


def connect(ray: Any, address: str | None, cpus: int | None) -> None:
    """Connect to the cluster at the address, or start one on this machine.

    Args:
        ray: the module.
        address: as `address_of` returns it.
        cpus: of the cluster on this machine; None for as many as it has.

    Raises:
        SoonerError: it can't be reached or started.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "include_dashboard": False}
    if address is None:
        quiet |= {"address": "local", "num_cpus": cpus, "object_store_memory": _LOCAL_STORE_BYTES}
    else:
        _refuse_unreachable(address)
        quiet = {"address": address, "log_to_driver": False, "logging_level": "error"}
    try:
        with _signals_kept():
            ray.init(**quiet)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        where = f"the cluster at {address}" if address else "Ray on this machine"
        raise SoonerError(f"{where} can't be reached or started ({' '.join(str(error).split())[:300]})") from error


def _refuse_unreachable(address: str) -> None:
    """Refuse an address where nobody listens; Ray itself would try for minutes.

    Raises:
        SoonerError: names it.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise SoonerError(f"--address {address} is no address of a cluster; write it like HOST:6379, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise SoonerError(
            f"nobody listens at --address {address} ({error}); give the address that `ray start --head` printed"
        ) from error


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Give the signal handlers back that Ray takes when it starts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            if handler is not None:
                signal.signal(number, handler)
