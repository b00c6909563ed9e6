"""Tables in text: csv, tsv and semicolons, streamed, also compressed with gzip."""

from __future__ import annotations

import csv
import gzip
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from sooner.error import SoonerError
from sooner.forecast.read.mapping import Asked
from sooner.forecast.read.rows import Row, gather
from sooner.forecast.table import Table

_HEAD = 4096


def open_text(path: Path) -> TextIO:
    """Return the file for reading, without a byte-order mark, unpacked where it is gzip.

    Raises:
        SoonerError: it is not there, can't be read, or is not text.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise SoonerError(f"cannot read {path} ({error.strerror or error}); name a file that is there") from None
    packed = head[:2] == b"\x1f\x8b"
    if path.suffix == ".gz" and not packed:
        raise SoonerError(f"{path.name} ends in .gz and is not compressed with gzip; rename it to what it is")
    if not packed and b"\0" in head:
        raise SoonerError(f"{path.name} is not text, whatever its ending says; give csv, tsv, jsonl or a text log")
    if not head.strip():
        raise SoonerError(f"{path.name} is empty; give a file with measurements")
    if packed:
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="strict", newline="")
    return path.open(encoding="utf-8-sig", errors="strict", newline="")


def read_delimited(path: Path, given: Asked) -> Table:
    """Return the table of a csv or tsv file.

    Raises:
        SoonerError: it is not what its ending says, or a row or column is wrong.
    """
    with open_text(path) as file:
        try:
            lines = (line for line in file if line.strip() and not line.startswith("#"))
            first = next(lines, "")
            if first.lstrip()[:1] in ("{", "<") or not first.strip():
                raise SoonerError(
                    f"{path.name} does not begin with headings but with {first.strip()[:20]!r}, whatever its ending "
                    "says; give csv, tsv, jsonl or a text log"
                )
            mark = max("\t;,", key=first.count)
            reader = csv.reader(itertools.chain([first], lines), delimiter=mark)
            headings = [heading.strip() for heading in next(reader)]
            return gather(path, headings, _rows(reader, mark), given)
        except (UnicodeDecodeError, csv.Error, EOFError, gzip.BadGzipFile, OSError) as error:
            raise SoonerError(
                f"{path.name} can't be read as a table of text ({error}); save it as csv in UTF-8"
            ) from None


def _rows(reader: Iterator[list[str]], mark: str) -> Iterator[Row]:
    for number, cells in enumerate(reader, start=2):
        decimal = mark == ";"  # where semicolons part the cells, commas are decimal
        yield number, [cell.replace(",", ".") if decimal else cell for cell in cells]
