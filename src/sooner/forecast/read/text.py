"""Opening files of text: its encoding found, gzip unpacked, and what is no text refused by what it is."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from sooner.error import SoonerError

_HEAD = 1 << 16
_GZIP = b"\x1f\x8b"
KNOWN: tuple[tuple[bytes, str, str], ...] = (
    (b"PAR1", "parquet", "rename it so that it ends in .parquet"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet", "save the sheet as csv"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstandard", "unpack it first"),
    (b"BZh", "compressed with bzip2", "unpack it first"),
    (b"\xfd7zXZ", "compressed with xz", "unpack it first"),
)
"""First bytes, what they show, and what to do about it."""
_MARKS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = re.compile(rb"[\x01-\x06\x0e-\x1a\x1c-\x1f\x7f]")
_MANY = 0.02
"""A larger share of control characters than this is in no text."""


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    r"""Open a file of text for reading; lines end as on any system, and at the \r of a progress bar.

    The encoding is that of its byte-order mark, else UTF-8, else UTF-16 where every other byte is zero, else Windows
    Latin. Zero bytes in front, as a log that was emptied while it was written has them, are left out.

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
    for mark, kind, remedy in KNOWN:
        if head.startswith(mark):
            raise SoonerError(f"{path.name} is not text but {kind}, whatever its ending says; {remedy}")
    file = cast(BinaryIO, gzip.open(path, "rb") if packed else path.open("rb"))  # noqa: SIM115 - closed by the caller
    try:
        start, head = _begin(file)
        encoding = _encoding(path, head)
        file.seek(start)
        return io.TextIOWrapper(file, encoding=encoding, errors="replace", newline=None)
    except BaseException:
        file.close()
        raise


def _begin(file: BinaryIO) -> tuple[int, bytes]:
    """Return where the first byte other than zero is, and the bytes from there on."""
    start, head = 0, file.read(_HEAD)
    while head and not head.strip(b"\0"):
        start, head = start + len(head), file.read(_HEAD)
    zeros = len(head) - len(head.lstrip(b"\0"))
    return (start + zeros, head[zeros:]) if start + zeros >= 2 else (0, head)


def _encoding(path: Path, head: bytes) -> str:
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    zeros = head.count(0)
    if zeros > 0.2 * len(head):
        return "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"
    if len(_CONTROLS.findall(head)) > _MANY * len(head) or zeros > _MANY * len(head):
        raise SoonerError(
            f"{path.name} is not text and can't be read as a table, whatever its ending says; give csv, tsv, json, "
            "jsonl or a text log"
        )
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"
