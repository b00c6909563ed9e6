"""Opening files of text: a byte-order mark left out, gzip unpacked, and what is no text refused by what it is."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from sooner.error import SoonerError

_HEAD = 4096
_GZIP = b"\x1f\x8b"
KNOWN: tuple[tuple[bytes, str, str], ...] = (
    (b"PAR1", "parquet", "rename it so that it ends in .parquet"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet", "save the sheet as csv"),
    (b"\xff\xfe", "UTF-16", "save it as csv in UTF-8"),
    (b"\xfe\xff", "UTF-16", "save it as csv in UTF-8"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstandard", "unpack it first"),
    (b"BZh", "compressed with bzip2", "unpack it first"),
    (b"\xfd7zXZ", "compressed with xz", "unpack it first"),
)
"""First bytes, what they show, and what to do about it."""


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """Open a file of text for reading.

    Raises:
        SoonerError: it is not there, can't be read, is not text, or turns out damaged while it is read.
    """
    try:
        with _open(path) as file:
            yield file
    except UnicodeDecodeError as error:
        raise SoonerError(f"{path.name} can't be read as text ({error}); save it as csv in UTF-8") from None
    except EOFError:
        raise SoonerError(
            f"{path.name} can't be read to its end: the compressed file is cut off; copy it again"
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise SoonerError(f"{path.name} can't be read: it is damaged as a gzip file ({error}); copy it again") from None
    except csv.Error as error:
        raise SoonerError(f"{path.name} can't be read as a table of text ({error}); save it as csv in UTF-8") from None
    except OSError as error:
        raise SoonerError(f"cannot read {path} ({error.strerror or error}); name a file that is there") from None


def first_bytes(path: Path) -> bytes:
    """Return the beginning of a file.

    Raises:
        SoonerError: it can't be read, or holds nothing.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise SoonerError(f"cannot read {path} ({error.strerror or error}); name a file that is there") from None
    if not head.strip():
        raise SoonerError(f"{path.name} is empty; give a file with measurements")
    return head


def _open(path: Path) -> TextIO:
    head = first_bytes(path)
    packed = head.startswith(_GZIP)
    if path.suffix == ".gz" and not packed:
        raise SoonerError(f"{path.name} ends in .gz and is not compressed with gzip; rename it to what it is")
    if packed:
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="strict", newline="")
    for start, kind, remedy in KNOWN:
        if head.startswith(start):
            raise SoonerError(f"{path.name} is not text but {kind}, whatever its ending says; {remedy}")
    if b"\0" in head:
        raise SoonerError(f"{path.name} is not text, whatever its ending says; give csv, tsv, jsonl or a text log")
    return path.open(encoding="utf-8-sig", errors="strict", newline="")
