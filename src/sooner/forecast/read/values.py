"""The columns of numbers of the rows that were kept, in the units of the laws."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.numbers import commas_are_decimal, number
from sooner.forecast.read import mapping
from sooner.forecast.read.names import meaning
from sooner.forecast.read.thin import Row
from sooner.forecast.table import LOGGED, FloatArray

NOT_NEGATIVE = (
    "step",
    "lr",
    "parameters",
    "tokens",
    "compute",
    "batch",
    "unique_tokens",
    "experts",
    "width",
    "seconds",
)
_NEEDED = frozenset((*NOT_NEGATIVE, "loss", "perplexity")) - {"seconds"}
"""Columns that laws read, in which a text that is no number is refused; others are left out."""


def columns_of(
    path: Path,
    headings: list[str],
    chosen: mapping.Chosen,
    kept: list[Row],
    notes: list[str],
    *,
    decimal_comma: bool,
    log: bool,
) -> dict[str, FloatArray]:
    """Return the columns of numbers, in the units of the laws."""
    named = {heading: column for column, heading in chosen.columns.items() if column != "run"}
    if "run" in chosen.columns and chosen.columns["run"] in headings:
        named[chosen.columns["run"]] = "run"
    cells_of = {heading: [(n, cells[place]) for n, cells in kept] for place, heading in enumerate(headings)}
    texts = [cell for h in named if h in cells_of and named[h] != "run" for _, cell in cells_of[h]]
    losses = [cell for _, cell in cells_of.get(chosen.columns.get("loss", ""), []) if isinstance(cell, str)]
    comma = commas_are_decimal((cell for cell in texts if isinstance(cell, str)), decimal_comma)
    if log and not comma:  # 2,798 is no loss of thousands where no number of the log has a point
        comma = commas_are_decimal(losses, True) and not any("." in str(cell) for cell in texts)
    columns: dict[str, FloatArray] = {}
    for heading in headings:
        column = named.get(heading, heading)
        if column == "run" or (log and heading not in named) or (heading not in named and column in chosen.columns):
            continue  # a heading is not what it says where another was named as that
        strict = heading in named and column in _NEEDED
        made = _numbers(path, heading, cells_of[heading], comma, strict=strict)
        if made is None:
            if heading in named and column != "seconds":
                notes.append(f"the column {heading!r} is not of numbers and was left out")
            continue
        if column in ("lr", "epoch") and heading in named and np.isnan(made).all():
            continue
        columns[column] = made * chosen.factors.get(heading, 1.0) if heading in named else made
        if heading in named and chosen.factors.get(heading, 1.0) != 1.0:
            notes.append(f"{column} is {heading!r} times {chosen.factors[heading]:g}")
    totals = (
        [cells[headings.index(t)] for _, cells in kept] if (t := f"{chosen.columns.get('step')} of") in headings else []
    )
    if totals:
        made = _numbers(path, t, list(zip((n for n, _ in kept), totals, strict=True)), comma, strict=False)
        if made is not None:
            columns["steps of an epoch"] = made
    return _scores(path, chosen, columns, cells_of, notes)


def _scores(
    path: Path,
    chosen: mapping.Chosen,
    columns: dict[str, FloatArray],
    cells_of: dict[str, list[tuple[int, object]]],
    notes: list[str],
) -> dict[str, FloatArray]:
    """Make shares of percents, a loss of a perplexity, and of an accuracy where there is no other."""
    for name in ("accuracy", "error"):
        if name in columns:
            written = any("%" in str(cell) for _, cell in cells_of.get(chosen.columns.get(name, name), []))
            values = columns[name]
            if written or (np.nanmax(values, initial=0.0) > 1.0 and np.nanmax(values) <= 100.0):
                columns[name] = values / 100.0
                notes.append(f"{name} was read as per cent")
    heading = chosen.columns.get("loss")
    meant = None if heading is None else meaning(heading)
    if heading is not None and meant is not None and meant.column in ("perplexity", "accuracy"):
        values = columns["loss"]
        if meant.column == "perplexity":
            with np.errstate(divide="ignore", invalid="ignore"):
                columns["loss"] = np.where(values > 0, np.log(values), np.nan)
            notes.append(f"{LOGGED} {heading!r}")
        else:
            percent = np.nanmax(values, initial=0.0) > 1.0 or any("%" in str(c) for _, c in cells_of.get(heading, []))
            columns["loss"] = 1.0 - values / (100.0 if percent else 1.0)
            notes.append(f"the loss is the error rate, 1 - {heading!r}")
    elif heading is None and "step" in {*columns, *chosen.columns}:
        for name, words in (
            ("error", "the loss is the error rate"),
            ("accuracy", "the loss is the error rate, 1 - accuracy"),
        ):
            if name in columns and "loss" not in columns:
                values = columns.pop(name)
                columns["loss"] = values if name == "error" else 1.0 - values
                notes.append(f"{path.name} has no loss: {words}")
        if "loss" in columns:
            columns.pop("accuracy", None)
    return columns


def _numbers(
    path: Path, heading: str, cells: list[tuple[int, object]], decimal_comma: bool, *, strict: bool
) -> FloatArray | None:
    """Return a column, NaN where a cell is empty; None for a column of text that no law asked for, or a blank one."""
    made = np.empty(len(cells))
    for place, (line, cell) in enumerate(cells):
        if isinstance(cell, float | int) and not isinstance(cell, bool):
            made[place] = float(cell) if abs(cell) < 1e300 or cell != cell else np.inf
            continue
        text = str(cell).strip() if cell is not None else ""
        try:
            made[place] = number(text, decimal_comma)
        except ValueError:
            if not strict:
                return None
            raise SoonerError(
                f"row {line} of {path.name} has {text[:40]!r} in the column {heading!r}, which must be a number; "
                "mend the row, or read another column with --column NAME=HEADING"
            ) from None
    return None if np.isnan(made).all() and not strict else made
