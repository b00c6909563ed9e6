"""Which reader a file is for: told by what it holds, by its ending only where that leaves it open."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from sooner.error import SoonerError
from sooner.forecast.read.delimited import LONGEST, LOOKED_AT, head, layout_of, read_delimited
from sooner.forecast.read.journal import FILE, read_journal
from sooner.forecast.read.json_shapes import all_objects, read_document, read_lines
from sooner.forecast.read.mapping import Asked
from sooner.forecast.read.mlflow_runs import mlflow_runs, read_mlflow
from sooner.forecast.read.optional import holds_events, read_events, read_parquet
from sooner.forecast.read.text import first_bytes
from sooner.forecast.read.training_log import read_training_log
from sooner.forecast.table import Table

Reader = Callable[[Path, Asked], Table]

ENDINGS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".log", ".txt", ".out", ".md", ".parquet")
"""Endings of the files that are read of a folder, also with .gz; a file that is named may have any or none."""
_TABLES = (".csv", ".tsv")
_SLACK = 200
"""JSON that can't be read so near to the end of what was looked at may be whole in the file."""
_OBJECTS = (".jsonl", ".ndjson")


def ending(path: Path) -> str:
    """Return a file's ending in lower case; a further .gz is looked through."""
    return (Path(path.stem).suffix if path.suffix == ".gz" else path.suffix).lower()


def reader(path: Path) -> Reader:
    """Return the reader of a file or folder.

    Raises:
        SoonerError: it is not there, or is none that can be read.
    """
    if not path.exists():
        raise SoonerError(f"there is no file {path}; name one that is there")
    if path.is_dir():
        return read_journal if (path / FILE).exists() else read_mlflow if mlflow_runs(path) else read_events
    if holds_events(path):
        return read_events
    if ending(path) == ".parquet" or (first_bytes(path).startswith(b"PAR1") and ending(path) not in ENDINGS):
        return read_parquet
    return _of_text(path)


def _of_text(path: Path) -> Reader:
    lines = head(path)
    texts = [line for _, line in lines]
    first = texts[0].strip() if texts else ""
    if ending(path) in _OBJECTS or (first.startswith("{") and len(texts) > 1 and all_objects(texts)):
        return read_lines
    if first.startswith(("{", "[")) and _is_document(path, texts):
        return read_document
    certain = ending(path) in _TABLES
    return read_delimited if certain or layout_of(lines, certain=False) is not None else read_training_log


def _is_document(path: Path, texts: list[str]) -> bool:
    """Return whether a file is one JSON value, as far as its first lines show."""
    if ending(path) == ".json":
        return True
    text = "".join(texts)
    try:
        return isinstance(json.loads(text), dict | list)
    except json.JSONDecodeError as error:
        return (len(texts) == LOOKED_AT or len(texts[-1]) == LONGEST) and error.pos >= len(text) - _SLACK
    except (ValueError, RecursionError):
        return False
