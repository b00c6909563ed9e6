"""The journal of a race: one append-only file per race folder that survives kill -9, a full disk and a power cut.

Each finished piece of work is one line of `journal.jsonl` (see `journal_lines`), forced to the disk before `append`
returns. A race that is run again opens the same folder, finds what it has already done and goes on. Only one process
may write at a time: it holds the file lock on `lock`, which the system gives back however the process ends. Anybody
may `read` meanwhile.
"""

import copy
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sooner.error import SoonerError
from sooner.foundation.files import sync
from sooner.race.journal_lines import (
    FORMAT,
    Content,
    Record,
    canonical,
    decode,
    encode,
    read_content,
    read_line,
    write_line,
)

FILE = "journal.jsonl"
LOCK = "lock"


class View:
    """What a race folder's journal holds, for reading.

    Args:
        folder: The race folder.
        content: The records read from it; the first is of the kind "race".
    """

    def __init__(self, folder: Path, content: Content) -> None:
        self.folder = folder
        self.notes: list[str] = []
        """Plain sentences on what was found and mended while reading."""
        self._records: list[Record] = []
        self._latest: dict[tuple[str, str], Record] = {}
        for record in content.records:
            self._keep(record)

    @property
    def identity(self) -> dict[str, Any]:
        """What makes this race this race, as it was given when the folder was made."""
        return copy.deepcopy(self._records[0].data["identity"])

    @property
    def sessions(self) -> list[Record]:
        """One record per time the race was started or resumed; `data` is the provenance of that session."""
        return self.all("session")

    def find(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return the data of the latest record with this kind and key, None where there is none."""
        record = self._latest.get((kind, key))
        return None if record is None else copy.deepcopy(record.data)

    def all(self, kind: str) -> list[Record]:
        """Return every record of this kind, oldest first."""
        return [record.model_copy(deep=True) for record in self._records if record.kind == kind]

    def _keep(self, record: Record) -> None:
        self._records.append(record)
        self._latest[record.kind, record.key] = record


class Journal(View):
    """The journal of the one process that runs the race. Made by `Journal.open`; use it in a `with`, or `close` it."""

    def __init__(self, folder: Path, content: Content, lock: int, file: int) -> None:
        super().__init__(folder, content)
        self._length = content.length
        self._lock: int | None = lock
        self._file: int | None = file

    @classmethod
    def open(cls, folder: Path, identity: dict[str, Any], provenance: dict[str, Any]) -> Self:
        """Start the race in `folder`, or resume it, and record this session.

        Args:
            folder: The race folder; made, with its parents, where it is missing.
            identity: What makes this race this race: a folder with another identity is refused, field by field.
            provenance: Who, where and with which versions; may differ from session to session.

        Raises:
            SoonerError: The folder is not a race folder, holds another race, is in use or cannot be written; or its
                journal is damaged elsewhere than at its end.
        """
        lock = file = None
        try:
            _make(folder)
            lock = _take_lock(folder)
            path = folder / FILE
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            content = read_content(path.read_bytes(), path)
            if content.records:
                _compare(folder, content.records[0].data["identity"], identity)
            journal = cls(folder, content, lock, file)
            journal._begin(content, identity, provenance)
        except BaseException as error:
            for descriptor in (file, lock):
                if descriptor is not None:
                    os.close(descriptor)
            if isinstance(error, OSError):
                raise _explain(error, folder, None) from error
            raise
        return journal

    def append(self, kind: str, key: str, data: dict[str, Any]) -> None:
        """Record `data` under `kind` and `key`; when this returns, the record is on the disk.

        Args:
            kind: What the record is; "cell" for a finished cell (these are counted when the disk is full).
            key: Which one of its kind; the latest record of a kind and key is the one that `find` returns.
            data: Strict JSON content: dicts with text keys, lists, texts, numbers (also nan and inf), booleans, None.

        Raises:
            SoonerError: The disk refused. Nothing half-written stays in the file.
            TypeError: `data` holds something else; nothing is written.
        """
        if self._file is None:
            raise ValueError("the journal is closed")
        line = write_line(kind, key, data)
        try:
            self._check_file()
            rest = line
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
            self._length += len(line)
        except BaseException as error:  # also Ctrl-C between two writes
            with suppress(OSError):
                os.ftruncate(self._file, self._length)
            if isinstance(error, OSError):
                raise _explain(error, self.folder, sum(record.kind == "cell" for record in self._records)) from error
            raise
        # Kept as it will be read back, so that a resumed race sees exactly what an uninterrupted one saw.
        self._keep(read_line(line[:-1]))

    def close(self) -> None:
        """Release the folder. Closing twice is fine."""
        for descriptor in (self._file, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._file = self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_file(self) -> None:
        """Cut off what an earlier failed write left; refuse a file that somebody removed or shortened meanwhile."""
        assert self._file is not None
        status = os.fstat(self._file)
        if status.st_nlink == 0 or status.st_size < self._length:
            raise SoonerError(
                f"{self.folder / FILE} was removed or shortened while the race was running: restore it, or start again"
            )
        if status.st_size > self._length:
            os.ftruncate(self._file, self._length)

    def _begin(self, content: Content, identity: dict[str, Any], provenance: dict[str, Any]) -> None:
        if content.torn:
            self.notes.append(
                f"the last line of {self.folder / FILE} was cut off by an interruption ({content.torn} bytes); it was "
                f"removed and what it recorded is run again"
            )
        if not content.records:
            self.append("race", "", {"format": FORMAT, "identity": identity, "provenance": provenance})
            for folder in (self.folder, self.folder.absolute().parent):
                with suppress(OSError):  # some network file systems can't
                    sync(folder)
        self.append("session", str(len(self.sessions) + 1), provenance)


def read(folder: Path) -> View:
    """Return what the journal in `folder` holds, without the lock: the race may be running.

    Raises:
        SoonerError: There is no race in the folder; its journal is damaged elsewhere than at its end or cannot be read.
    """
    path = folder / FILE
    missing = SoonerError(f"no race in {folder}: name the folder that was given to `sooner race` as --out")
    try:
        content = read_content(path.read_bytes(), path)
    except (FileNotFoundError, NotADirectoryError):
        raise missing from None
    except OSError as error:
        raise SoonerError(f"cannot read {path} ({error.strerror})") from error
    if not content.records:
        raise missing
    view = View(folder, content)
    if content.torn:
        view.notes.append(f"the last line of {path} is incomplete (being written, or cut off) and is left out")
    return view


def _make(folder: Path) -> None:
    """Make the folder; refuse one that belongs to something else."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {path.name for path in folder.iterdir()}
    if names - {LOCK} and FILE not in names:
        raise SoonerError(f"{folder} is not a race folder and not empty: choose another --out, such as {_free(folder)}")


def _take_lock(folder: Path) -> int:
    """Return the descriptor that holds the lock of the folder."""
    # The programs that this process starts do not inherit it (Python's rule), so they cannot keep the lock alive.
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise SoonerError(
            f"another race (process {holder or 'unknown'}) is running in {folder}: wait until it ends, or choose "
            f"another --out, such as {_free(folder)}"
        ) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _compare(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raise SoonerError naming the fields in which the two identities differ."""
    changes = list(_changes(old, decode(encode(new)), ""))
    if changes:
        shown = "; ".join(f"{field}: {before} -> {after}" for field, before, after in changes[:3])
        more = f" (and {len(changes) - 3} more)" if len(changes) > 3 else ""
        raise SoonerError(
            f"{folder} holds another race, which differs in {shown}{more}: repeat its own command to go on with it, or "
            f"choose another --out for this one, such as {_free(folder)}"
        )


_NOTHING = object()


def _changes(old: Any, new: Any, field: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _changes(old.get(key, _NOTHING), new.get(key, _NOTHING), f"{field}.{key}" if field else key)
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            before = old[index] if index < len(old) else _NOTHING
            after = new[index] if index < len(new) else _NOTHING
            yield from _changes(before, after, f"{field}[{index}]")
    elif (before := _short(old)) != (after := _short(new)) or _text(old) != _text(new):
        yield field, before, after


def _text(value: Any) -> str:
    return "nothing" if value is _NOTHING else canonical(encode(value), sort=True)


def _short(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _free(folder: Path) -> Path:
    """Return the first of folder-2, folder-3, … that does not exist."""
    base = folder if folder.name not in ("", "..") else folder.resolve()
    number = 2
    while (candidate := base.with_name(f"{base.name}-{number}")).exists():
        number += 1
    return candidate


def _explain(error: OSError, folder: Path, finished: int | None) -> SoonerError:
    if finished is None:
        kept = "all that is finished is kept"
    else:
        kept = f"{finished} finished cell{' is' if finished == 1 else 's are'} kept"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SoonerError(f"no space left in {folder}: free some and run the same command again; {kept}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return SoonerError(f"cannot write in {folder} ({error.strerror}): make it writable, or choose another --out")
    return SoonerError(f"cannot write in {folder} ({error.strerror}): mend that and run the same command again; {kept}")
