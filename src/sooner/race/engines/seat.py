"""What a Ray cluster runs for one cell at a time: an actor that sends cells to a worker process of its own.

The worker process is the one of every race on one machine, so threads, hash seed, silence and retries are the same, and
so are the numbers. This file travels to the nodes by value, before anything of sooner is there: it imports the standard
library alone.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
import queue
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Parcel:
    """The code that a node needs beside what is installed there.

    Args:
        files: content by absolute path on the machine that races.
        path: where Python looks for modules there, as far as that is no part of an installation.
        folder: its working directory.
    """

    files: Mapping[str, bytes]
    path: tuple[str, ...]
    folder: str

    @property
    def digest(self) -> str:
        """16 hexadecimal digits for all of it."""
        found = hashlib.sha256(repr((self.path, self.folder)).encode())
        for name in sorted(self.files):
            found.update(f"\0{name}\0{len(self.files[name])}\0".encode())
            found.update(self.files[name])
        return found.hexdigest()[:16]

    def settle(self) -> Path | None:
        """Have this process import what the parcel holds, and return the folder it was unpacked to.

        None where the files are here already: on the machine that races, or in a folder that all nodes share.
        """
        root = None if self._below(None) else self._unpacked()
        shipped = [str(below(root, entry)) for entry in self.path] if root else []
        wanted = [entry for entry in (*shipped, *self.path) if Path(entry).exists() and entry not in sys.path]
        sys.path[:] = [*dict.fromkeys(wanted), *sys.path]
        for folder in (self.folder, below(root, self.folder) if root else self.folder):
            with suppress(OSError):
                os.chdir(folder)
        return root

    def _below(self, root: Path | None) -> bool:
        """Return whether the very same files lie in their places, or below a folder."""
        with suppress(OSError):
            files = {below(root, name) if root else Path(name): content for name, content in self.files.items()}
            return all(file.read_bytes() == content for file, content in files.items())
        return False

    def _unpacked(self) -> Path:
        """Return the folder that holds the files below their old paths; made once on every node."""
        root = Path(tempfile.gettempdir()) / f"sooner-{os.getuid()}-{self.digest}"
        with suppress(OSError):
            if root.stat().st_uid == os.getuid() and self._below(root):  # nothing of it was cleared away
                return root
        made = Path(tempfile.mkdtemp(prefix="sooner-"))  # nobody else may write there
        for name, content in self.files.items():
            file = below(made, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        try:
            made.rename(root)
        except OSError:  # another worker was faster, or the name is somebody else's
            return made
        return root


def below(root: Path, name: str) -> Path:
    """Return where an absolute path of the machine that races lies below the unpacked parcel."""
    return root / Path(name).relative_to(Path(name).anchor)


class Seat:
    """One worker process on a node.

    Args:
        parcel: code to run it with.
        function: what runs a cell, "package.module:name".
        options: of `Processes`.
    """

    def __init__(self, parcel: Parcel, function: str, options: Mapping[str, Any]) -> None:
        self._root = parcel.settle()
        engine = importlib.import_module("sooner.race.engines.processes")
        self._cell = importlib.import_module("sooner.race.pool").Cell
        self._pool = engine.Processes(1, function, **options)

    def about(self) -> dict[str, Any]:
        """Return what the node is, as far as it decides numbers and times."""
        machine = importlib.import_module("sooner.race.machine")
        return {"name": platform.node(), "processor": machine.processor(), "versions": machine.versions()}

    def run(self, key: str, payload: dict[str, Any]) -> Iterator[list[Any]]:
        """Run a cell; yield ["progress", fraction, info] as it goes and ["result", dict] or ["failure", cause] last."""
        told: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
        cell = self._cell(key, self._moved(payload))

        def progress(_: Any, fraction: float, info: dict[str, Any]) -> None:
            if info:
                told.put(["progress", fraction, info])

        def work() -> None:
            ends: list[list[Any]] = []
            try:
                self._pool.run(
                    [cell],
                    lambda _, result: ends.append(["result", result]),
                    progress,
                    lambda _, cause: ends.append(["failure", cause]),
                )
            except BaseException as error:
                ends.append(["failure", f"{type(error).__name__}: {error}"])
            told.put(ends[-1])  # only now may the next cell come

        threading.Thread(target=work, daemon=True).start()
        while True:
            message = told.get()
            yield message
            if message[0] != "progress":
                return

    def _moved(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Return the payload with the task's file where it lies here."""
        task = payload.get("task")
        if self._root is None or not isinstance(task, dict) or "spec" not in task:
            return payload
        here = below(self._root, task["spec"])
        return {**payload, "task": {**task, "spec": str(here)}} if here.is_file() else payload
