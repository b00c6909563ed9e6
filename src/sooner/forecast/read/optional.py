"""Formats whose libraries are optional: parquet (pyarrow) and TensorBoard's event files (tensorboard)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sooner.error import SoonerError, nearest
from sooner.forecast.read import mapping
from sooner.forecast.read.mapping import Asked
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
        return gather(path, headings, _rows(file, headings), given)
    except (OSError, pyarrow.ArrowException) as error:
        raise SoonerError(f"{path.name} can't be read as parquet ({error}); write or copy it again") from None


def _rows(file: Any, headings: list[str]) -> Iterator[Row]:
    number = 0
    for batch in file.iter_batches():
        columns = [batch.column(name).to_pylist() for name in headings]
        for cells in zip(*columns, strict=True):
            number += 1
            yield number, cells


def read_events(folder: Path, given: Asked) -> Table:
    """Return the curves of a TensorBoard folder: a run per folder below it that has event files.

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
        raise SoonerError(
            f"{folder.name} holds TensorBoard runs, which have no cells to pick rows by; leave --where out"
        )
    runs: list[Table] = []
    seen: set[str] = set()
    for one in sorted({file.parent for file in folder.rglob(f"{EVENTS}*")}):
        events = EventAccumulator(str(one), size_guidance={"scalars": MOST})
        events.Reload()
        tags = events.Tags()["scalars"]
        seen.update(tags)
        chosen = _chosen(tags, given.columns)
        if "loss" not in chosen:
            continue
        name = str(one.relative_to(folder)) if one != folder else folder.name
        made = gather(folder / name, ["step", *chosen], _scalars(events, chosen), Asked())
        made = Table(made.columns, np.full(len(made), name), made.notes)
        runs.append(made.with_notes(*(f"{column} is read from {tag!r}" for column, tag in chosen.items())))
    for tag in given.columns.values():
        if tag not in seen:
            raise SoonerError(f"{folder} has no scalar {tag!r}{nearest(tag, seen)}; it has {', '.join(sorted(seen))}")
    if not runs:
        raise SoonerError(
            f"no run below {folder} has a loss; its scalars are {', '.join(sorted(seen)) or '(none)'}: name one with "
            "--column loss=TAG"
        )
    return join(runs)


def _scalars(events: Any, chosen: Mapping[str, str]) -> Iterator[Row]:
    """Yield the steps and values of a run at the steps of its loss; what was logged at other steps is interpolated."""
    loss = events.Scalars(chosen["loss"])
    steps = np.array([event.step for event in loss], dtype=np.float64)
    columns = [steps]
    for column, tag in chosen.items():
        own = loss if column == "loss" else events.Scalars(tag)
        x, y = (np.array([getattr(event, name) for event in own], dtype=np.float64) for name in ("step", "value"))
        columns.append(y if column == "loss" else np.interp(steps, x, y))
    yield from enumerate(zip(*columns, strict=True), start=1)


def _chosen(tags: list[str], given: Mapping[str, str]) -> dict[str, str]:
    """Return tag by column: the whole tag, or its last part, as the headings of files are matched."""
    found = {name: tag for name, tag in given.items() if tag in tags}
    short = {tag: tag.rsplit("/", 1)[-1] for tag in tags}
    for column in ("loss", "lr"):
        known = mapping.ALIASES[column]
        ranked = [
            (known.index(mapping.plain(text)), tag)
            for tag in tags
            for text in (tag, short[tag])
            if mapping.plain(text) in known
        ]
        if column not in found and ranked:
            found[column] = min(ranked)[1]
    return found
