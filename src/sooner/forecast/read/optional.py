"""Formats whose libraries are optional: parquet (pyarrow) and TensorBoard's event files (tensorboard)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.read import mapping
from sooner.forecast.read.mapping import Asked
from sooner.forecast.read.rows import Row, gather
from sooner.forecast.table import Table, join, table

EVENTS = "events.out.tfevents"


def read_parquet(path: Path, given: Asked) -> Table:
    """Return the table of a parquet file, read in batches.

    Raises:
        SoonerError: pyarrow is not installed, or the file is not parquet.
    """
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
        raise SoonerError(f"{path.name} can't be read as parquet ({error}); give what its ending says") from None


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
    runs, seen = [], set()
    for one in sorted({file.parent for file in folder.rglob(f"{EVENTS}*")}):
        events = EventAccumulator(str(one), size_guidance={"scalars": 0})
        events.Reload()
        tags = events.Tags()["scalars"]
        seen.update(tags)
        chosen = _chosen(tags, given.columns)
        if "loss" not in chosen:
            continue
        loss = events.Scalars(chosen["loss"])
        steps = np.array([event.step for event in loss], dtype=np.float64)
        columns: dict[str, Any] = {"step": steps, "loss": [event.value for event in loss]}
        if "lr" in chosen:
            rates = events.Scalars(chosen["lr"])
            columns["lr"] = np.interp(steps, [event.step for event in rates], [event.value for event in rates])
        name = str(one.relative_to(folder)) if one != folder else folder.name
        runs.append(table(name, **columns).with_notes(f"loss is read from {chosen['loss']!r}"))
    if not runs:
        raise SoonerError(
            f"no run below {folder} has a loss; its scalars are {', '.join(sorted(seen)) or '(none)'}: name one with "
            "--column loss=TAG"
        )
    return join(runs)


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
