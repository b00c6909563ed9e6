"""From rows of text to a table: numbers checked, columns named, runs told apart, every refusal with row and column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sooner.error import SoonerError
from sooner.forecast.read import mapping
from sooner.forecast.table import FloatArray, Table

AGAIN = 2
"""A log that goes back to its first step this often holds several runs; once is a run that was begun anew."""
_MOST = 100_000
"""Rows kept of one file; longer ones are thinned evenly, in bounded memory."""

Row = tuple[int, Sequence[object]]
"""The number of a row in its file, and its cells."""


def gather(path: Path, headings: Sequence[str], rows: Iterable[Row], asked: mapping.Asked) -> Table:
    """Return the table of one file.

    Args:
        path: for messages and for the name of the run.
        headings: of the columns.
        rows: numbered rows, streamed.
        asked: what the user says.

    Raises:
        SoonerError: no rows, ragged rows, text in a column of numbers, or losses that can't be.
    """
    chosen, notes = mapping.find(list(headings), asked, path.name)
    kept, stride, count = _thin(path, headings, rows, asked.where)
    if not kept and asked.where:
        wanted = ", ".join(f"{heading} {text!r}" for heading, text in asked.where.items())
        raise SoonerError(f"{path.name} has no row with {wanted}; write the cells as they are in the file")
    if not kept:
        raise SoonerError(f"{path.name} has headings and no rows; give a file with measurements")
    if stride > 1:
        notes.append(f"{path.name} has {count:,} rows; every {stride}th was kept")
    named = {heading: column for column, heading in chosen.items()}
    columns: dict[str, FloatArray] = {}
    for place, heading in enumerate(headings):
        column = named.get(heading, heading)
        if column == "run":
            continue
        known = heading in named
        made = _numbers(path, heading, [(number, cells[place]) for number, cells in kept], strict=known)
        if made is not None:
            columns[column] = made
    if not columns:
        raise SoonerError(f"{path.name} has no column of numbers; it has {', '.join(headings)}")
    run = None
    if "run" in chosen:
        places = [list(headings).index(one) for one in mapping.parts(chosen["run"], headings)]
        run = np.array(["/".join(str(cells[place]) for place in places) for _, cells in kept])
    table = Table(columns, np.empty(0, dtype="<U1") if run is None else run, tuple(notes))
    numbers = np.array([number for number, _ in kept])
    return _runs(path, _losses(path, table, numbers), named_runs=run is not None)


def _thin(
    path: Path, headings: Sequence[str], rows: Iterable[Row], where: Mapping[str, str]
) -> tuple[list[Row], int, int]:
    kept: list[Row] = []
    tests = [(list(headings).index(heading), text) for heading, text in where.items()]
    stride, count = 1, 0
    for number, cells in rows:
        if len(cells) != len(headings):
            raise SoonerError(
                f"row {number} of {path.name} has {len(cells)} cells and the heading {len(headings)}; mend the row"
            )
        if any(str(cells[place]).strip() != text for place, text in tests):
            continue
        if count % stride == 0:
            kept.append((number, cells))
            if len(kept) > _MOST:
                kept, stride = kept[::2], stride * 2
        count += 1
    return kept, stride, count


def _numbers(path: Path, heading: str, cells: list[tuple[int, object]], *, strict: bool) -> FloatArray | None:
    """Return a column, NaN where a cell is empty; None for a column of text that no law asked for."""
    made = np.empty(len(cells))
    for place, (number, cell) in enumerate(cells):
        text = str(cell).strip() if cell is not None else ""
        try:
            made[place] = float(text.replace(",", "")) if text else np.nan
        except ValueError:
            if not strict:
                return None
            raise SoonerError(
                f"row {number} of {path.name} has {text[:40]!r} in the column {heading!r}, which must be a number; "
                "mend the row, or read another column with --column NAME=HEADING"
            ) from None
    return None if np.isnan(made).all() and not strict else made


def _losses(path: Path, table: Table, numbers: npt.NDArray[np.intp]) -> Table:
    """Return the table without rows that hold no loss; refuse losses that no logarithm takes."""
    if "loss" not in table:
        return table
    loss = table["loss"]
    bad = np.flatnonzero(np.isinf(loss) | (loss <= 0))
    if bad.size:
        raise SoonerError(
            f"row {numbers[bad[0]]} of {path.name} has the loss {loss[bad[0]]:g}; losses must be positive and finite, "
            "as laws are fitted on their logarithm: drop the row, or name another column with --column loss=HEADING"
        )
    missing = np.isnan(loss)
    if missing.all():
        raise SoonerError(f"{path.name} has no loss in any row; name the column with --column loss=HEADING")
    if missing.any():
        note = f"{int(missing.sum())} rows of {path.name} without a loss (empty or NaN) were left out"
        return table.where(~missing).with_notes(note)
    return table


def _runs(path: Path, table: Table, *, named_runs: bool) -> Table:
    """Return the table with the file as one run where it holds a curve, with its steps in order."""
    if "step" not in table:
        return table
    if not named_runs:
        table = Table(table.columns, np.full(len(table), path.stem), table.notes)
    pieces = [_ordered(path, run) for _, run in table.each_run()]
    columns = {name: np.concatenate([piece[name] for piece in pieces]) for name in table.columns}
    notes = tuple(dict.fromkeys(note for piece in pieces for note in piece.notes))
    return Table(columns, np.concatenate([piece.run for piece in pieces]), notes)


def _ordered(path: Path, run: Table) -> Table:
    """Return one run by step; a restart keeps what came later, two runs that alternate are refused."""
    steps = run["step"]
    blank = np.isnan(steps)
    if blank.all():
        raise SoonerError(
            f"{path.name} has no step in any row; fill them in, or name the column with --column step=HEADING"
        )
    if blank.any():
        run = run.where(~blank).with_notes(f"{int(blank.sum())} rows of {path.name} without a step were left out")
        steps = run["step"]
    back = np.flatnonzero(np.diff(steps) < 0)
    if not back.size and not (np.diff(steps) == 0).any():
        return run
    _, first, counts = np.unique(steps, return_index=True, return_counts=True)
    again = int((steps[back + 1] <= steps[0]).sum())
    if (counts > 1).any() and again >= AGAIN:
        raise SoonerError(
            f"{path.name} begins anew {again} times, as if several runs stood one after the other; name the column "
            "that tells them apart with --column run=HEADING (or run=FIRST+SECOND), or pick one with "
            "--where HEADING=TEXT"
        )
    if (counts > 1).any() and back.size + int((np.diff(steps) == 0).sum()) > max(3, 0.02 * len(steps)):
        twice = steps[first[counts > 1][0]]
        raise SoonerError(
            f"{path.name} has step {twice:g} more than once, again and again, as if two runs were interleaved; split "
            "the file, name the column that tells them apart with --column run=HEADING, or pick one with "
            "--where HEADING=TEXT"
        )
    last = len(steps) - 1 - np.unique(steps[::-1], return_index=True)[1]
    note = (
        f"{path.name} goes back to an earlier step, as after a restart: the later rows were kept"
        if (counts > 1).any()
        else f"the steps of {path.name} were not in order; they were sorted"
    )
    return run.where(last).with_notes(note)
