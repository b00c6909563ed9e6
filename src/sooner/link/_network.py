"""Network namespaces joined by rate-limited veth pairs. Everything here is gone with the process that made it.

A namespace lives as long as the descriptor that holds it open: no names, no mounts, nothing to clean up. Two ranks are
joined by one veth pair, more of them by one pair each into a bridge in the namespace of the supervisor.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence

from sooner.link._counters import counted

INTERFACE = "eth0"
"""The name of a rank's interface, in every namespace."""

_CLONE_NEWNET = 0x40000000
_QUEUE_MILLISECONDS = 400
BUCKET = 64 * 1024
"""Bytes that pass at once after a pause. With less, every packet goes alone, with two thirds more bytes of headers and
acknowledgements; with this, 100 kB take 16 ms at 20 Mbit/s after a pause instead of 42, which `LinkModel` can tell."""

_TIMER_SECONDS = 128e-6
"""Fast links need a larger bucket: what the rate lets through until a late timer fires."""


class RefusedError(Exception):
    """The system does not let us, with what it said."""


class Network:
    """The namespaces of the ranks.

    Args:
        ranks: how many.
        rate: bits per second, None for no limit.
        loss: share of the packets that get lost on arrival.

    Raises:
        RefusedError: the system does not allow it.
    """

    def __init__(self, ranks: int, rate: float | None, loss: float) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._own = self._current()
        self._spaces = [self._new() for _ in range(ranks)]
        if ranks == 2:
            with self.inside(0):
                self._ip("link", "add", INTERFACE, "type", "veth", "peer", INTERFACE, "netns", self._path(1))
        else:
            self._ip("link", "add", "hub", "type", "bridge")
            self._ip("link", "set", "hub", "up")
            for rank in range(ranks):
                port = f"port{rank}"
                self._ip("link", "add", port, "type", "veth", "peer", INTERFACE, "netns", self._path(rank))
                self._ip("link", "set", port, "master", "hub", "addrgenmode", "none", "up")
                self._limit(port, rate)
        for rank in range(ranks):
            with self.inside(rank):
                self._ip("link", "set", "lo", "up")
                self._ip("address", "add", f"{self.address(rank)}/24", "dev", INTERFACE)
                # without an address of IPv6 no neighbour discovery disturbs the counts
                self._ip("link", "set", INTERFACE, "addrgenmode", "none", "up")
                self._limit(INTERFACE, rate)
                if loss:
                    match = ["-m", "statistic", "--mode", "random", "--probability", f"{loss:.6f}"]
                    self._call(["iptables", "-A", "INPUT", "-i", INTERFACE, *match, "-j", "DROP"])

    @staticmethod
    def address(rank: int) -> str:
        """Return the address of a rank."""
        return f"10.77.0.{rank + 1}"

    @contextlib.contextmanager
    def inside(self, rank: int) -> Iterator[None]:
        """Be in the namespace of a rank; what is started there stays there."""
        self._enter(self._spaces[rank])
        try:
            yield
        finally:
            self._enter(self._own)

    def counts(self, rank: int) -> tuple[int, int]:
        """Return the bytes that a rank has received and sent."""
        with self.inside(rank):
            return counted(INTERFACE) or (0, 0)

    def switch(self, rank: int, on: bool) -> None:
        """Bring a rank's link up or down."""
        with self.inside(rank):
            self._ip("link", "set", INTERFACE, "up" if on else "down")

    def _limit(self, interface: str, rate: float | None) -> None:
        if rate is None:
            return
        burst = max(BUCKET, int(rate / 8 * _TIMER_SECONDS))
        bucket = ["rate", f"{rate:.0f}bit", "burst", f"{burst}b", "latency", f"{_QUEUE_MILLISECONDS}ms"]
        self._call(["tc", "qdisc", "add", "dev", interface, "root", "tbf", *bucket])

    def _ip(self, *words: str) -> None:
        self._call(["ip", *words])

    def _call(self, words: Sequence[str]) -> None:
        lock = {"XTABLES_LOCKFILE": os.devnull}  # /run is not ours without root, and nobody else is in here
        done = subprocess.run(
            words, env=os.environ | lock, pass_fds=self._spaces, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RefusedError(f"`{' '.join(words)}` said: {' '.join(done.stderr.split())}")

    def _path(self, rank: int) -> str:
        return f"/proc/self/fd/{self._spaces[rank]}"

    def _current(self) -> int:
        return os.open("/proc/self/ns/net", os.O_RDONLY)

    def _new(self) -> int:
        if self._libc.unshare(_CLONE_NEWNET):
            raise RefusedError(os.strerror(ctypes.get_errno()))
        made = self._current()
        self._enter(self._own)
        return made

    def _enter(self, space: int) -> None:
        if self._libc.setns(space, _CLONE_NEWNET):
            raise RefusedError(os.strerror(ctypes.get_errno()))
