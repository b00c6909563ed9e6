"""The ledger: what was judged, with every run that it rests on, in one append-only file beside the code.

`.sooner/judged.jsonl` has one checksummed line for each thing that happened (the lines are those of a race's journal).
Several processes may judge at once: each holds the file's lock for the moment of reading what others added and adding
its own line, which is on the disk before anybody goes on. What an interrupted write left at the end is cut off.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sooner.error import SoonerError
from sooner.foundation.files import sync
from sooner.judging.evidence import BETTER
from sooner.judging.stream import level
from sooner.race.journal_lines import DamagedError, Record, ShapeError, read_line, write_line

FILE = "judged.jsonl"
FORMAT = 1
Q = 0.05
"""The share of false discoveries that a ledger allows unless it was begun with another."""
SIDES = ("baseline", "candidate")
SEEDS_EACH = 1_000
"""Seeds that are set aside for one comparison. Those below this number are never used: people try things on them."""


class Ledger:
    """The ledger in a folder.

    Args:
        folder: such as `.sooner`.

    Raises:
        SoonerError: the file is damaged elsewhere than at its end, or can't be read.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.records: list[Record] = []
        self._latest: dict[tuple[str, str], Record] = {}
        self._read = 0
        self.refresh()

    def refresh(self) -> None:
        """Take in the whole lines that were added since, whoever added them."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                self._take(file.read())
        except FileNotFoundError:
            if self._read:
                raise SoonerError(f"{self.path} was removed while in use: restore it, or start again") from None
        except OSError as error:
            raise SoonerError(f"cannot read {self.path} ({error.strerror}); make it readable") from None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock: what is read and added inside is one step for everybody else.

        Raises:
            SoonerError: the folder or the file can't be written.
        """
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise _explain(error, self.path) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self.refresh()
            if os.fstat(descriptor).st_size > self._read:  # the end of a write that was interrupted
                os.ftruncate(descriptor, self._read)
            self._file = descriptor
            yield
        finally:
            os.close(descriptor)

    def add(self, kind: str, key: str, data: dict[str, Any]) -> None:
        """Add a line, inside `alone`; when this returns it is on the disk.

        Raises:
            SoonerError: the disk refuses. Nothing half-written stays in the file.
        """
        line = write_line(kind, key, data)
        try:
            rest = line
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except BaseException as error:  # also Ctrl-C between two writes
            with suppress(OSError):
                os.ftruncate(self._file, self._read)
            if isinstance(error, OSError):
                raise _explain(error, self.path) from None
            raise
        if not self._read:
            with suppress(OSError):  # some network file systems can't
                sync(self.path.parent)
        self._take(line)

    def begin(self, q: float | None) -> None:
        """Start the stream, inside `alone`, or check that its budget is this one; None takes what is there.

        Raises:
            SoonerError: it has another.
        """
        if not self.records:
            self.add("stream", "", {"format": FORMAT, "q": Q if q is None else q})
        elif q is not None and (known := self.q) != q:
            raise SoonerError(
                f"{self.path} allows a share of {known:g} false discoveries, and --q asks for {q:g}; leave --q out, or "
                "keep another ledger with --folder"
            )

    @property
    def q(self) -> float:
        """The share of false discoveries that this ledger allows."""
        return float(self.records[0].data["q"]) if self.records else Q

    def find(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return the data of the latest line of this kind and key, None where there is none."""
        record = self._latest.get((kind, key))
        return None if record is None else record.data

    def all(self, kind: str) -> dict[str, Record]:
        """Return the latest line of each key, in the order in which the keys first appeared."""
        return {record.key: record for record in self.records if record.kind == kind}

    def runs(self) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
        """Return the runs of each comparison and each side by their seed."""
        found: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
        for name, record in self.all("run").items():
            key, side, seed = name.split("/")
            found.setdefault(key, {side: {} for side in SIDES})[side][seed] = record.data
        return found

    def comparison(self, key: str, data: dict[str, Any]) -> dict[str, Any]:
        """Return what is known of a comparison, inside `alone`; a new one gets seeds that nobody else has."""
        known = self.find("comparison", key)
        if known is None:
            known = {**data, "first_seed": SEEDS_EACH * (len(self.all("comparison")) + 1)}
            self.add("comparison", key, known)
        return known

    def enter(self, key: str) -> tuple[int, float]:
        """Return a comparison's place in the stream and its level, inside `alone`; both stay what they were."""
        known = self.find("level", key)
        if known is None:
            number = len(self.all("level")) + 1
            known = {"number": number, "level": self.next_level()}
            self.add("level", key, known)
        return known["number"], known["level"]

    def next_level(self) -> float:
        """Return the level of a candidate that entered now."""
        return level(len(self.all("level")) + 1, self.discoveries(), self.q)

    def discoveries(self) -> list[int]:
        """Return, for each candidate that was found better, how many had entered the stream by then."""
        entered = 0
        found: dict[str, int] = {}
        for record in self.records:
            entered += record.kind == "level"
            if record.kind == "verdict" and record.data["outcome"] == BETTER:
                found.setdefault(record.key, entered)
        return list(found.values())

    def _take(self, content: bytes) -> None:
        *lines, rest = content.split(b"\n")
        for place, line in enumerate(lines):
            try:
                record = read_line(line)
            except (DamagedError, ShapeError) as error:
                if isinstance(error, DamagedError) and place == len(lines) - 1 and not rest:
                    return  # a torn end; the next write cuts it off
                raise SoonerError(
                    f"{self.path}: line {len(self.records) + 1} is damaged ({error}); nothing was overwritten: restore "
                    "that line from a copy, or keep another ledger with --folder"
                ) from None
            if not self.records and (record.kind != "stream" or record.data.get("format") != FORMAT):
                raise SoonerError(
                    f"{self.path} is no ledger that this version of sooner reads; choose another --folder"
                )
            self.records.append(record)
            self._latest[record.kind, record.key] = record
            self._read += len(line) + 1


def prepare(folder: Path) -> None:
    """Make the folder of a ledger, which git is told to ignore.

    Raises:
        SoonerError: it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise _explain(error, folder) from None


@contextmanager
def claimed(folder: Path, key: str) -> Iterator[None]:
    """Hold a comparison, so that nobody else makes the same runs.

    Raises:
        SoonerError: another process judges it.
    """
    place = folder / "running"
    try:
        place.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place / f"{key}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise _explain(error, place) from None
    try:
        _lock_soon(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock_soon(descriptor: int, folder: Path) -> None:
    """Take the lock, if need be after a moment: what a killed judgement was just starting holds it until it runs.

    Raises:
        SoonerError: somebody keeps it.
    """
    for patience in (0.1,) * 20 + (0.0,):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(patience)
    raise SoonerError(
        f"another process is judging these two already ({folder}); wait until it ends, and ask again for its answer"
    )


def _explain(error: OSError, path: Path) -> SoonerError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SoonerError(
            f"no space left for {path}: free some and run the same command again; all that is finished is kept"
        )
    return SoonerError(f"cannot write {path} ({error.strerror}): make it writable, or choose another --folder")
