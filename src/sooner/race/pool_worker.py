"""The worker's side of the pool: one process with one thread of arithmetic that runs one cell after another.

The pool starts this file by its path, so the user's main program is never imported again (an unguarded script that
calls a race would otherwise start itself over and over). The first message brings what is needed to import the rest.
"""

import ctypes
import importlib
import json
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

Report = Callable[..., None]
CellFunction = Callable[[Any, Report], dict[str, Any]]

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux
_QUIET_SECONDS = 0.1  # bare signs of life closer together than this are not sent


def main(descriptor: int) -> None:
    """Serve the pool at the other end of the socket `descriptor` until it closes."""
    # Ctrl-C reaches every process of the terminal; the pool decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_inheritable(descriptor, False)
    connection = Connection(descriptor)
    start = pickle.loads(connection.recv_bytes())
    _die_with(start["parent"], start["main_thread"])
    sys.path[:] = start["path"]
    cells: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, cells), daemon=True).start()
    function = _load(start["function"])
    connection.send_bytes(_text("ready"))
    while True:
        connection.send_bytes(_run(function, cells.get(), connection))


def _die_with(parent: int, main_thread: bool) -> None:
    """Have Linux kill this process when its parent is gone, even if a computation never lets `_receive` notice.

    Linux means the thread that started this process, so it is asked only where that thread lives as long as the parent.
    """
    if sys.platform == "linux" and main_thread:
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _receive(connection: "Connection[Any, Any]", cells: "queue.SimpleQueue[bytes]") -> None:
    """Take in cells; end the process, whatever it computes, as soon as the pool closes its end or dies."""
    try:
        while True:
            cells.put(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)


def _load(name: str) -> CellFunction:
    module, _, attribute = name.partition(":")
    try:
        function: CellFunction = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        failure = error  # every cell will fail with it

        def function(payload: Any, report: Report) -> dict[str, Any]:
            raise failure

    return function


def _run(function: CellFunction, message: bytes, connection: "Connection[Any, Any]") -> bytes:
    """Run one cell and return the answer to send: ["result", dict] or ["failure", cause]."""
    last_sent = -_QUIET_SECONDS

    def report(fraction: float, info: dict[str, Any] | None = None) -> None:
        nonlocal last_sent
        now = time.monotonic()
        if info or now - last_sent >= _QUIET_SECONDS:
            last_sent = now
            connection.send_bytes(_text("progress", float(fraction), info or {}))

    try:
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)  # before every cell: the one before may have changed it
        result = function(pickle.loads(message), report)
        if not isinstance(result, dict):
            raise TypeError(f"a cell must return a dict, not {type(result).__name__}")
        return _text("result", result)
    except Exception as error:
        return _text("failure", _cause(error))


def _cause(error: Exception) -> str:
    """Return the message alone for an error meant for people, else its type, message and place."""
    from sooner.error import SoonerError  # importable only once the first message has brought the path

    if isinstance(error, SoonerError):
        return str(error)
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    if not frames:
        return text
    return f"{text} ({Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name})"


def _text(*message: Any) -> bytes:
    # JSON, so that the pool can read the answer without the modules that this process has imported.
    return json.dumps(message).encode("ascii")


if __name__ == "__main__":
    main(int(sys.argv[1]))
