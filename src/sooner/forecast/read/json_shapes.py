"""Measurements as JSON: an object per line, a list of objects, lists by name, and any of them inside something else."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sooner.error import SoonerError
from sooner.forecast.read.mapping import Asked
from sooner.forecast.read.names import meaning
from sooner.forecast.read.rows import gather
from sooner.forecast.read.text import opened
from sooner.forecast.read.thin import Row
from sooner.forecast.table import Table

_DEPTH = 4
"""Lists are looked for so deep in a document, and fields of a row so deep in its objects."""


def read_lines(path: Path, given: Asked) -> Table:
    """Return the table of a file with a JSON object on each line: the fields of all its objects are the columns.

    Raises:
        SoonerError: a line is no JSON object, or a value is wrong.
    """
    lines = _Lines(path)
    headings = list(dict.fromkeys(key for _, entry in lines.objects() for key in entry))
    if not headings:
        raise SoonerError(f"{path.name} has objects without fields; give a file with measurements")

    def rows() -> Iterator[Row]:
        for number, entry in lines.objects():
            yield number, [entry.get(heading) for heading in headings]

    made = gather(path, headings, rows, given, cut=lambda: None)
    return made.with_notes(*lines.notes)


def read_document(path: Path, given: Asked) -> Table:
    """Return the table of a file that is one JSON value: rows, columns, or an object that holds either.

    Raises:
        SoonerError: it is not JSON, or holds no table.
    """
    with opened(path) as file:
        text = file.read().strip("\0 \t\r\n")
    try:
        held = _values(text)
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "its depth"
        raise SoonerError(f"{path.name} is no JSON ({where} can't be read); write or copy it again") from None
    found = _entries(held, _DEPTH)
    if not found or not (given.columns or any(_has_loss(row) for row in found)):
        raise SoonerError(
            f'{path.name} is JSON without a table: give a list of objects, as in [{{"step": 100, "loss": 3.2}}], or '
            'lists by name, as in {"loss": [3.2, 3.1]}'
        )
    entries = [flat(entry) for entry in found]
    headings = list(dict.fromkeys(key for entry in entries for key in entry))
    if not headings:
        raise SoonerError(f"{path.name} has objects without fields; give a file with measurements")

    def rows() -> Iterator[Row]:
        for number, entry in enumerate(entries, start=1):
            yield number, [entry.get(heading) for heading in headings]

    return gather(path, headings, rows, given)


def _values(text: str) -> Any:
    """Return the JSON value of a text, a list where several stand one after the other."""
    decoder, at, found = json.JSONDecoder(), 0, []
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        found.append(value)
        at += len(text[at:]) - len(text[at:].lstrip()) if text[at : at + 1].isspace() else 0
    return found[0] if len(found) == 1 else found


def flat(entry: Mapping[Any, Any], depth: int = _DEPTH) -> dict[str, Any]:
    """Return the fields of an object, those of objects inside it under both names, as in train/loss."""
    made: dict[str, Any] = {}
    for key, value in entry.items():
        if isinstance(value, list) and len(value) == 1 and not isinstance(value[0], list | dict):
            value = value[0]
        if isinstance(value, Mapping):
            if depth:
                made.update({f"{key}/{name}": one for name, one in flat(value, depth - 1).items()})
        elif isinstance(value, bool):
            made[str(key)] = str(value)
        elif not isinstance(value, list):
            made[str(key)] = value
    return made


def _entries(held: Any, depth: int) -> list[dict[str, Any]]:
    """Return the rows of a table that a value is or holds, the longest it holds; nothing without one."""
    if isinstance(held, list):
        if (rows := [one for one in held if isinstance(one, dict)]) and 2 * len(rows) >= len(held):
            nested = [one for one in (_entries(row, depth - 1) for row in rows if depth) if len(one) > len(rows)]
            return max(nested, key=len) if nested else rows
        return _of_lists(held)
    if not isinstance(held, dict):
        return []
    if isinstance(held.get("columns"), list) and isinstance(held.get("data"), list):  # pandas' orient="split"
        return [
            dict(zip(map(str, held["columns"]), row, strict=False)) for row in held["data"] if isinstance(row, list)
        ]
    columns = _columns(held)
    candidates = [_of_columns(columns)] if columns else []
    keyed = {key: value for key, value in held.items() if isinstance(value, dict)}
    if keyed and 2 * len(keyed) >= len(held) and all(_is_number(key) for key in keyed):
        candidates.append([{"step": float(key), **value} for key, value in keyed.items() if "step" not in value])
    if keyed and len(keyed) == len(held) and (inner := _of_indices(keyed)):
        candidates.append(inner)
    if len(held) > 2 and all(_is_number(key) and _is_value(value) for key, value in held.items()):
        candidates.append([{"step": float(key), "loss": value} for key, value in held.items()])
    if depth:
        candidates += [_entries(value, depth - 1) for value in held.values() if isinstance(value, dict | list)]
    return max(candidates, key=lambda rows: (any(_has_loss(row) for row in rows[-3:]), len(rows)), default=[])


def _of_indices(held: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of columns that are objects by index, as pandas writes them: {"loss": {"0": 3.2, "1": 3.1}}."""
    indices = list(next(iter(held.values())))
    alike = all(list(one) == indices and all(map(_is_value, one.values())) for one in held.values())
    if not (alike and len(indices) > 1 and all(map(_is_number, indices))) or all(map(_is_number, held)):
        return []
    rows = [{name: one[index] for name, one in held.items()} for index in indices]
    axis = any(
        (m := meaning(name)) is not None and m.column in ("step", "epoch", "tokens", "parameters") for name in held
    )
    return rows if axis else [{"step": float(index), **row} for index, row in zip(indices, rows, strict=True)]


def _is_value(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _has_loss(row: Mapping[str, Any]) -> bool:
    found = [m.column for key in flat(row) if (m := meaning(key)) is not None]
    return bool({"loss", "perplexity", "accuracy", "error"} & set(found))


def _of_lists(held: Sequence[Any]) -> list[dict[str, Any]]:
    """Return rows of [step, loss], and of TensorBoard's [time, step, value]; nothing of other lists."""
    if not held or not all(isinstance(one, list) and all(isinstance(v, int | float) for v in one) for one in held):
        return []
    widths = {len(one) for one in held}
    names = {2: ("step", "loss"), 3: ("timestamp", "step", "value")}.get(widths.pop() if len(widths) == 1 else 0)
    return [] if names is None else [dict(zip(names, one, strict=True)) for one in held]


def _columns(held: Mapping[str, Any], depth: int = _DEPTH) -> dict[str, list[Any]]:
    """Return the lists of plain values in an object, by name."""
    made: dict[str, list[Any]] = {}
    for key, value in held.items():
        if isinstance(value, list) and value and not any(isinstance(one, list | dict) for one in value):
            made[str(key)] = value
        elif isinstance(value, dict) and depth:
            made.update({f"{key}/{name}": one for name, one in _columns(value, depth - 1).items()})
    return made


def _of_columns(columns: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Return rows of lists that are as long as most; without steps among them they are epochs, as in Keras."""
    lengths = [len(values) for values in columns.values()]
    length = max(set(lengths), key=lambda n: (lengths.count(n), n))
    kept = {name: values for name, values in columns.items() if len(values) == length}
    axis = any(
        (m := meaning(name)) is not None and m.column in ("step", "epoch", "tokens", "parameters") for name in kept
    )
    if length < 2:
        return []
    rows = [dict(zip(kept, values, strict=True)) for values in zip(*kept.values(), strict=True)]
    return rows if axis else [{"epoch": at, **row} for at, row in enumerate(rows, start=1)]


def _is_number(text: Any) -> bool:
    try:
        return math.isfinite(float(text))
    except (TypeError, ValueError):
        return False


class _Lines:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.notes: list[str] = []

    def objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the objects; a last one that is cut off is left out.

        Raises:
            SoonerError: a line is none.
        """
        self.notes = []
        with opened(self._path) as file:
            bad: tuple[int, str] | None = None
            for number, line in enumerate(file, start=1):
                line = line.strip(" \t\r\n\0")
                if not line:
                    continue
                if bad is not None:
                    raise self._refusal(*bad)
                try:
                    entry = json.loads(line)
                except (ValueError, RecursionError):
                    entry = None
                if isinstance(entry, dict):
                    yield number, flat(entry)
                else:
                    bad = number, line
            if bad is not None and not (bad[1].startswith("{") and bad[0] > 1):
                raise self._refusal(*bad)
            if bad is not None:
                self.notes.append(f"the last line of {self._path.name} is unfinished and was left out")

    def _refusal(self, number: int, line: str) -> SoonerError:
        return SoonerError(
            f"line {number} of {self._path.name} is no JSON object: {line[:40]!r}; mend the line, or give the file the "
            "ending of what it is"
        )


def all_objects(lines: Iterable[str]) -> bool:
    """Return whether lines are JSON objects, but for the last, which may be cut off."""
    found = [_is_object(line) for line in lines]
    return bool(found) and found[0] and all(found[:-1])


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line.strip(" \t\r\n\0")), dict)
    except (ValueError, RecursionError):
        return False
