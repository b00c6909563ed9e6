"""One worker process as its pool sees it: started, given cells, listened to, and buried with the cause of its death."""

import json
import math
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sooner.error import SoonerError
from sooner.race.effort import processor_seconds
from sooner.race.pool import Cell

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_STARTUP_SECONDS = 600.0  # the least silence granted to a worker that imports torch, perhaps on a busy machine
_ENDING_SECONDS = 5.0  # its connection closes before it has ended: a moment, or seconds on a busy machine
_TAIL_BYTES = 2000
_LOOKS = 8
"""At a silent worker, in the time that it may be idle."""
_AT_WORK = 0.05
"""Share of a core that tells work from waiting."""


@dataclass(frozen=True)
class Attempt:
    """A cell to run, and why the earlier attempts at it ended."""

    cell: Cell
    causes: tuple[str, ...] = ()


class Worker:
    """One worker process, seen from the pool.

    Args:
        function: "package.module:name".
        slot: number of its place.
        environment: variables that hold there, such as the devices it may see.
    """

    def __init__(self, function: str, slot: int = 0, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        self.slot = slot
        ours, theirs = Pipe()
        descriptor = theirs.fileno()
        try:
            self.process = subprocess.Popen(
                # -P: the folder of the script must not hide modules of the standard library.
                [sys.executable, "-P", str(Path(__file__).with_name("pool_worker.py")), str(descriptor)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                pass_fds=(descriptor,),
                # The same hash seed everywhere: a task that walks through a set must be the same task in every worker.
                env={**os.environ, **dict.fromkeys(_THREADS, "1"), "PYTHONHASHSEED": "0", **environment},
            )
        except OSError as error:
            ours.close()
            raise SoonerError(f"cannot start a worker process ({error.strerror}): try again with fewer jobs") from error
        finally:
            theirs.close()
        self.connection: Connection[Any, Any] = ours
        self.output = self.process.stdout
        assert self.output is not None
        os.set_blocking(self.output.fileno(), False)
        self.attempt: Attempt | None = None
        self._tail = b""
        self._ready = False
        self._gone = False
        self._silence = 0.0
        self._idle = 0.0
        self._unseen = 0.0
        self._effort: float | None = None
        start = {
            "function": function,
            "path": [str(Path(entry).absolute()) for entry in sys.path],
            "parent": os.getpid(),
            "main_thread": threading.current_thread() is threading.main_thread(),
        }
        self._send(pickle.dumps(start))

    @property
    def ready(self) -> bool:
        """Whether it has started up, and has the cell that it was given."""
        return self._ready

    def give(self, attempt: Attempt) -> None:
        """Have the worker run this cell, at once or as soon as it has started up."""
        self.attempt = attempt
        self._heard()
        self._read_output()  # what is left of the cell before
        self._tail = b""
        if self._ready:
            self._send(pickle.dumps(attempt.cell.payload))

    def take(self, elapsed: float) -> list[Any] | None:
        """Return the next message if there is one; `elapsed` is the seconds since the pool last asked."""
        self._read_output()
        self._silence += elapsed
        self._idle += elapsed
        self._unseen += elapsed
        try:
            if not self.connection.poll():
                return None
            message: list[Any] = json.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            self._gone = True
            return None
        self._heard()
        if message == ["ready"]:
            self._ready = True
            assert self.attempt is not None
            self._send(pickle.dumps(self.attempt.cell.payload))
        return message

    def trouble(self, silence_seconds: float, busy_seconds: float = math.inf) -> str | None:
        """Return what is wrong with the worker, None when nothing is. Asked when there is no message to take.

        Args:
            silence_seconds: how long it may neither say nor compute anything.
            busy_seconds: how long it may compute without a word, as while it imports or compiles.
        """
        allowed = silence_seconds if self._ready else max(silence_seconds, _STARTUP_SECONDS)
        self._look(allowed / _LOOKS)
        if self._gone:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_ENDING_SECONDS)
        code = self.process.poll()
        if not self._gone and self.connection.poll():
            return None  # it has answered since; that counts, even if it has ended
        if code is None:
            if self._gone:
                return "the worker closed its connection"
            if self._idle >= allowed:
                return f"no sign of life for {allowed:g} s"
            busy = max(allowed, busy_seconds)
            return f"at work without a word for {busy:g} s" if self._silence >= busy else None
        if code >= 0:
            return f"exit code {code}"
        hint = "out of memory?" if code == -signal.SIGKILL else signal.strsignal(-code)
        return f"killed by signal {-code} ({hint})"

    def _heard(self) -> None:
        self._silence = self._idle = self._unseen = 0.0
        self._effort = None

    def _look(self, every: float) -> None:
        """Now and then see whether the worker computes, which is a sign of life that needs no message."""
        if self._effort is not None and self._unseen < every:
            return
        effort = processor_seconds(self.process.pid)
        if self._effort is not None and effort is not None and effort - self._effort >= _AT_WORK * self._unseen:
            self._idle = 0.0
        self._effort, self._unseen = effort, 0.0

    def last_words(self) -> str:
        """Return the end of what the worker printed during its cell, as the end of a sentence."""
        lines = [line.strip() for line in self._tail.decode("utf-8", "replace").splitlines() if line.strip()]
        return f"; its last words: {' | '.join(lines[-3:])[-300:]}" if lines else ""

    def end(self) -> None:
        """Kill the process and wait until nothing of it is left."""
        self.process.kill()
        self.process.wait()
        self._read_output()
        if self.output:
            self.output.close()
            self.output = None
        self.connection.close()

    def _send(self, message: bytes) -> None:
        with suppress(OSError):  # a worker that has just died is noticed by `trouble`
            self.connection.send_bytes(message)

    def _read_output(self) -> None:
        # One read takes all that the pipe can hold; a second one might never come to an end.
        if self.output and (text := self.output.read(1 << 16)) is not None:
            self._tail = (self._tail + text)[-_TAIL_BYTES:]
            if not text:  # closed: waiting for it would never end
                self.output.close()
                self.output = None
