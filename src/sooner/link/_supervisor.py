"""The process that holds the network, starts the ranks and outlives none of them.

It is started by `run`, gets the lab as a line of JSON on its standard input, and answers with lines of JSON on a
descriptor. Where namespaces are allowed it is process 1 of a process namespace of its own: the kernel kills whatever
is in there when it ends. It ends when its standard input does: when whoever started it is gone, even by SIGKILL.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from sooner.link._counters import counted
from sooner.link._network import INTERFACE, Network, RefusedError

_PORT = 29500
_PR_SET_PDEATHSIG = 1
_GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL."""


@dataclass
class _Stream:
    """One rank's standard output or error, passed on line by line."""

    source: BinaryIO
    target: Any
    rank: int
    rest: bytes = b""
    last: str = ""

    def drain(self) -> bool:
        """Pass on what is there; return whether there may be more."""
        while True:
            try:
                found = os.read(self.source.fileno(), 1 << 16)
            except BlockingIOError:
                return True
            *lines, self.rest = (self.rest + found).split(b"\n")
            if not found and self.rest:
                lines, self.rest = [*lines, self.rest], b""
            for line in lines:
                self._tell(line.decode(errors="replace").rstrip("\r"))
            if not found:
                return False

    def _tell(self, line: str) -> None:
        self.last = line.strip() or self.last
        if self.target is not None:
            try:
                print(f"rank {self.rank} | {line}", file=self.target, flush=True)
            except OSError:  # the reader of our output went away; the run goes on
                self.target = None


@dataclass
class _Rank:
    number: int
    process: subprocess.Popen[bytes]
    streams: list[_Stream]
    seconds: float | None = None
    killed: bool = False  # because --kill said so
    stopped: bool = False  # by us, because another failed or time was up

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def told(self, sent: float | None, received: float | None) -> dict[str, Any]:
        out, error = (stream.last for stream in self.streams)
        return {
            "rank": self.number,
            "code": self.process.returncode,
            "seconds": self.seconds,
            "sent": sent,
            "received": received,
            "last": error or out,
            "killed": self.killed,
            "stopped": self.stopped,
        }


@dataclass
class _Supervisor:
    lab: dict[str, Any]
    network: Network | None
    ranks: list[_Rank] = field(default_factory=list)
    begun: float = 0.0
    due: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def run(self) -> list[dict[str, Any]]:
        before = self._counts()
        with contextlib.nullcontext() if self.network else held_port() as held:
            port = held.getsockname()[1] if held else _PORT
            self.begun = time.monotonic()
            for number in range(self.lab["ranks"]):
                self.ranks.append(self._start(number, port))
            self._plan_faults()
            if self.lab["timeout"] is not None:
                self.due.append((self.lab["timeout"], self._stop))
            self._watch()
        after = self._counts()
        moved = [(b[1] - a[1], b[0] - a[0]) if a and b else (None, None) for a, b in zip(before, after, strict=True)]
        return [rank.told(*counts) for rank, counts in zip(self.ranks, moved, strict=True)]

    def _counts(self) -> list[tuple[float, float] | None]:
        numbers = range(self.lab["ranks"])
        if self.network:
            return [self.network.counts(number) for number in numbers]
        found = counted("lo")  # everything on the loopback interface, an equal share to every rank
        return [None if found is None else (found[0] / len(numbers), found[1] / len(numbers)) for _ in numbers]

    def _start(self, number: int, port: int) -> _Rank:
        environment = os.environ | _environment(number, self.lab["ranks"], self.network is not None, port)
        inside = self.network.inside(number) if self.network else contextlib.nullcontext()
        with inside:
            process = subprocess.Popen(
                self.lab["command"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        assert process.stdout is not None
        assert process.stderr is not None
        echo = self.lab["echo"]
        targets = {"print": (sys.stdout, sys.stderr), "stderr": (sys.stderr, sys.stderr)}.get(echo, (None, None))
        streams = [
            _Stream(source, target, number)  # type: ignore[arg-type]
            for source, target in zip((process.stdout, process.stderr), targets, strict=True)
        ]
        for stream in streams:
            os.set_blocking(stream.source.fileno(), False)
        return _Rank(number, process, streams)

    def _plan_faults(self) -> None:
        for fault in self.lab["kills"]:
            self.due.append((fault["at"], lambda rank=fault["rank"]: self._kill(rank)))  # type: ignore[misc]
        for fault in self.lab["cuts"] if self.network else ():
            rank, at, length = fault["rank"], fault["at"], fault["seconds"]
            self.due.append((at, lambda rank=rank: self.network.switch(rank, on=False)))  # type: ignore
            if length is not None:
                self.due.append((at + length, lambda rank=rank: self.network.switch(rank, on=True)))  # type: ignore

    def _kill(self, number: int) -> None:
        rank = self.ranks[number]
        if rank.process.poll() is None:
            rank.killed = True
            rank.signal(signal.SIGKILL)

    def _stop(self) -> None:
        """End the ranks that still run: politely, and after a moment for good."""
        for rank in self.ranks:
            if rank.process.poll() is None:
                rank.stopped = True
                rank.signal(signal.SIGTERM)
        self.due = [(time.monotonic() - self.begun + _GRACE, self._end)]

    def _end(self) -> None:
        for rank in self.ranks:
            if rank.process.poll() is None:
                rank.signal(signal.SIGKILL)

    def _watch(self) -> None:
        """Return when all ranks have ended."""
        with selectors.DefaultSelector() as selector:
            selector.register(sys.stdin, selectors.EVENT_READ)
            for rank in self.ranks:
                for stream in rank.streams:
                    selector.register(stream.source, selectors.EVENT_READ, stream)
                selector.register(os.pidfd_open(rank.process.pid), selectors.EVENT_READ, rank)
            failed = False
            while any(rank.seconds is None for rank in self.ranks):
                for key, _ in selector.select(self._pause()):
                    if key.data is None:  # the end of standard input: whoever started us is gone
                        self._end()
                        os._exit(1)
                    if isinstance(key.data, _Stream):
                        if not key.data.drain():
                            selector.unregister(key.fileobj)
                    else:
                        selector.unregister(key.fileobj)
                        os.close(key.fd)
                        failed |= self._ended(key.data, first=not failed)
                self._do_what_is_due()

    def _pause(self) -> float | None:
        if not self.due:
            return None
        return max(0.0, min(at for at, _ in self.due) - (time.monotonic() - self.begun))

    def _do_what_is_due(self) -> None:
        now = time.monotonic() - self.begun
        ready = sorted((one for one in self.due if one[0] <= now), key=lambda one: one[0])
        self.due = [one for one in self.due if one[0] > now]
        for _, action in ready:
            action()

    def _ended(self, rank: _Rank, first: bool) -> bool:
        """Note that a rank has ended; return whether it failed."""
        rank.seconds = time.monotonic() - self.begun
        rank.process.wait()
        for stream in rank.streams:
            stream.drain()
        if rank.process.returncode and first:
            self.due.append((rank.seconds + self.lab["wait"], self._stop))
        return bool(rank.process.returncode)


def _environment(rank: int, ranks: int, real: bool, port: int) -> dict[str, str]:
    """Return what torchrun would set, and which interface to use."""
    interface = INTERFACE if real else "lo"
    interfaces = dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "TP_SOCKET_IFNAME"), interface)
    return interfaces | {
        "RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        # devices are those of this one machine, so that every rank takes its own
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": Network.address(0) if real else "127.0.0.1",
        "MASTER_PORT": str(port),
        "NCCL_HOSTID": f"sooner-rank-{rank}",  # otherwise NCCL would go through shared memory, past the link
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _make_at_home(ranks: int) -> None:
    """Let programs see their own processes in /proc, and names for the ranks' addresses; where refused, do without."""
    subprocess.run(["mount", "-t", "proc", "proc", "/proc"], capture_output=True, check=False)
    hosts = Path("/etc/hosts")
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write(hosts.read_text(encoding="utf-8", errors="replace") if hosts.exists() else "")
        for rank in range(ranks):  # torch asks for the second form
            file.write(f"\n{Network.address(rank)} rank{rank}\n::ffff:{Network.address(rank)} rank{rank}\n")
        file.flush()
        subprocess.run(["mount", "--bind", file.name, str(hosts)], capture_output=True, check=False)


def held_port() -> socket.socket:
    """Return a socket that keeps a port for the rendezvous of ranks on this machine until it is closed.

    A port that is only looked up may be anybody's by the time rank 0 has imported torch. While this socket is bound,
    the kernel gives the port to nobody who asks for any port, and to no connection. As it doesn't listen, who names the
    port and allows its reuse (SO_REUSEADDR), as the stores of torch and most servers do, may listen there.
    """
    both = socket.has_dualstack_ipv6()  # free in both families, as the store of torch listens to both
    one = socket.socket(socket.AF_INET6 if both else socket.AF_INET)
    if both:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("", 0))
    return one


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(answers: int) -> None:
    """Run the lab that standard input describes and write to `answers` what became of it."""
    lab = json.loads(sys.stdin.readline())

    def answer(**facts: Any) -> None:
        os.write(answers, (json.dumps(facts) + "\n").encode())

    network = None
    if lab["real"]:
        _make_at_home(lab["ranks"])
        try:
            network = Network(lab["ranks"], lab["rate"], lab["loss"])
        except (RefusedError, OSError) as error:
            answer(refused=str(error))
            return
    supervisor = _Supervisor(lab, network)
    try:
        ranks = supervisor.run()
    except OSError as error:  # the command can't be started
        supervisor._end()
        answer(broken=f"{error.strerror}")
        return
    answer(ranks=ranks)
