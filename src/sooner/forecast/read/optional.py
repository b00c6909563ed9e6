"""Formats whose libraries are optional: parquet (pyarrow) and TensorBoard's event files (tensorboard)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sooner.error import SoonerError, nearest
from sooner.forecast.read.mapping import Asked
from sooner.forecast.read.names import meaning
from sooner.forecast.read.rows import gather
from sooner.forecast.read.text import first_bytes
from sooner.forecast.read.thin import Row
from sooner.forecast.table import Table, join

EVENTS = "events.out.tfevents"
MOST = 100_000
"""Values read of one scalar; of more, TensorBoard draws so many at random."""


def read_parquet(path: Path, given: Asked) -> Table:
    """Return the table of a parquet file, read in batches.

    Raises:
        SoonerError: pyarrow is not installed, or the file is not parquet.
    """
    if not first_bytes(path).startswith(b"PAR1"):
        raise SoonerError(f"{path.name} can't be read as parquet, whatever its ending says; rename it to what it is")
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise SoonerError("parquet files need pyarrow; install it with: pip install 'sooner[parquet]'") from None
    try:
        file = parquet.ParquetFile(path)
        headings = list(file.schema_arrow.names)
        return gather(path, headings, lambda: _rows(file, headings), given)
    except (OSError, pyarrow.ArrowException) as error:
        raise SoonerError(f"{path.name} can't be read as parquet ({error}); write or copy it again") from None


def _rows(file: Any, headings: list[str]) -> Iterator[Row]:
    number = 0
    for batch in file.iter_batches():
        columns = [batch.column(name).to_pylist() for name in headings]
        for cells in zip(*columns, strict=True):
            number += 1
            yield number, cells


def holds_events(path: Path) -> bool:
    """Return whether a path is an event file, or a folder with such files below it."""
    if path.is_file():
        return EVENTS in path.name
    return next(path.rglob(f"*{EVENTS}*"), None) is not None


def read_events(path: Path, given: Asked) -> Table:
    """Return the curves of a TensorBoard folder, a run per folder below it that has event files, or of one such file.

    Scalars may be stored as such, or as tensors of one number, as TensorFlow 2 does.

    Raises:
        SoonerError: tensorboard is not installed, or no run has a loss.
    """
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        raise SoonerError(
            "TensorBoard folders need tensorboard; install it with: pip install 'sooner[tensorboard]'"
        ) from None
    if given.where:
        raise SoonerError(f"{path.name} holds TensorBoard runs, which have no cells to pick rows by; leave --where out")
    runs: list[Table] = []
    seen: set[str] = set()
    places = [path] if path.is_file() else sorted({file.parent for file in path.rglob(f"*{EVENTS}*")})
    for one in places:
        events = EventAccumulator(str(one), size_guidance={"scalars": MOST, "tensors": MOST})
        try:
            events.Reload()
        except Exception as error:  # whatever a damaged file makes protobuf and tensorboard raise
            raise SoonerError(
                f"{one} can't be read as TensorBoard events ({type(error).__name__}); copy it again, or leave it out"
            ) from None
        tags = _tags(events)
        seen.update(tags)
        for asked in given.columns.values():
            if asked not in tags and one == path:
                raise _unknown(path, asked, seen)
        if not any((m := meaning(tag)) is not None and m.column == "loss" for tag in tags) and not (
            {*given.columns.values()} & {*tags}
        ):
            continue
        name = path.stem if one == path and path.is_file() else str(one.relative_to(path)) if one != path else path.name
        points = {tag: _points(events, tag) for tag in tags}
        steps = sorted({step for found in points.values() for step in found})

        def rows(points: Mapping[str, Mapping[int, float]] = points, steps: list[int] = steps) -> Iterator[Row]:
            for number, step in enumerate(steps, start=1):
                yield number, [step, *(found.get(step) for found in points.values())]

        own = Asked({c: t for c, t in given.columns.items() if t in tags}, split=given.split)
        headings = ["step", *(f"{tag} (scalar)" if tag == "step" else tag for tag in points)]
        made = gather(path / name, headings, rows, own)
        runs.append(Table(made.columns, np.full(len(made), name), made.notes, made.axis))
    for tag in given.columns.values():
        if tag not in seen:
            raise _unknown(path, tag, seen)
    if not runs:
        raise SoonerError(
            f"no run below {path} has a loss; its scalars are {', '.join(sorted(seen)) or '(none)'}: name one with "
            "--column loss=TAG"
        )
    return join(runs)


def _unknown(path: Path, tag: str, seen: set[str]) -> SoonerError:
    return SoonerError(f"{path} has no scalar {tag!r}{nearest(tag, seen)}; it has {', '.join(sorted(seen)) or 'none'}")


def _tags(events: Any) -> list[str]:
    """Return the names of scalars, however they are stored."""
    tags = list(events.Tags()["scalars"])
    for tag in events.Tags()["tensors"]:
        plugin = events.SummaryMetadata(tag).plugin_data.plugin_name
        if plugin in ("scalars", "") and tag not in tags:
            tags.append(tag)
    return tags


def _points(events: Any, tag: str) -> dict[int, float]:
    """Return values by step, the latest where a step was written again; tensors of more than a number are none."""
    if tag in events.Tags()["scalars"]:
        return {event.step: float(event.value) for event in events.Scalars(tag)}
    from tensorboard.util.tensor_util import make_ndarray

    found: dict[int, float] = {}
    for event in events.Tensors(tag):
        try:
            value = make_ndarray(event.tensor_proto)
        except (TypeError, ValueError):
            continue
        if value.size == 1 and value.dtype.kind in "fiu":
            found[event.step] = float(value.reshape(()))
    return found
