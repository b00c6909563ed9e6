"""From rows of text to a table: columns named, numbers checked, runs told apart, every refusal with row and column.

A file is gone through twice: first to see which cells are filled, by which headings are chosen; then for their values,
of which a bounded number is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sooner.error import SoonerError
from sooner.forecast.numbers import is_missing, looks_numeric, number
from sooner.forecast.read import mapping
from sooner.forecast.read.names import BARE, meaning, split_of
from sooner.forecast.read.pairs import RANK
from sooner.forecast.read.runs import several, told_apart
from sooner.forecast.read.streamed import Streamed, ends_cut
from sooner.forecast.read.thin import Row
from sooner.forecast.read.values import NOT_NEGATIVE, columns_of
from sooner.forecast.table import Doubt, FloatArray, Table, listed

_LABELS = 20
"""A text column with more different texts than this tells no kinds apart."""


def gather(
    path: Path,
    headings: Sequence[str],
    rows: Callable[[], Iterable[Row]],
    asked: mapping.Asked,
    *,
    decimal_comma: bool = False,
    log: bool = False,
    cut: Callable[[], int | None] = lambda: None,
) -> Table:
    """Return the table of one file.

    Args:
        path: for messages and for the name of the run.
        headings: of the columns.
        rows: gives the numbered rows, streamed, as often as it is called.
        asked: what the user says.
        decimal_comma: whether a comma that may be either is a decimal one.
        log: whether the headings are the names of numbers in a log.
        cut: after the rows, the number of a last one without an end of line.

    Raises:
        SoonerError: no rows, text in a column of numbers, or values that can't be.
    """
    headings = list(headings)
    filled, ranks = _survey(path, headings, rows, asked)
    chosen = mapping.find(headings, asked, path.name, filled, log=log)
    streamed = Streamed(path, headings, chosen, asked, ranks, log=log)
    for row in rows():
        streamed.add(row)
    kept = streamed.finish()
    notes = [*chosen.notes, *streamed.kept.note(path.name)]
    if len(ranks) > 1:
        notes.append(f"{path.name} has lines of {len(ranks)} ranks; those of rank {min(ranks, key=int)} were read")
    if (end := cut()) is not None and ends_cut(kept, end, *streamed.measured):
        kept = kept[:-1]
        notes.append(f"the last line of {path.name} is unfinished and was left out")
    columns = columns_of(path, headings, chosen, kept, notes, decimal_comma=decimal_comma, log=log)
    if not columns:
        raise SoonerError(f"{path.name} has no column of numbers; it has {listed(headings) or 'no headings'}")
    numbers = np.array([n for n, _ in kept])
    named_runs = "run" in chosen.columns
    run = np.array(streamed.names(kept) if named_runs else [f"row {line}" for line, _ in kept], dtype=np.str_)
    if chosen.columns.get("step") == mapping.ROWS:
        columns["step"] = np.arange(1.0, len(kept) + 1)
    elif "step" in columns and _unit(chosen) == "seconds" and len(kept) > 1:
        times = columns["step"]
        columns["step"] = times - times[0] + abs(times[1] - times[0])  # as if it had begun one row before the first
    columns, kept_rows, more = _finite(path, columns, run if named_runs else None)
    notes += more
    table = Table(columns, run, ()).where(kept_rows)
    numbers = numbers[kept_rows]
    _possible(path, table, numbers)
    _one_kind(path, headings, chosen, [kept[i] for i in np.flatnonzero(kept_rows)], table, asked)
    if "step" in table and not named_runs:
        table = Table(table.columns, np.full(len(table), path.stem))
    table = streamed.rates(path, table, decimal_comma=decimal_comma)
    if streamed.blank:
        notes.append(f"{streamed.blank} rows of {path.name} without a loss (empty or NaN) were left out")
    table = told_apart(path, table.with_notes(*notes), epochs=_unit(chosen) == "epochs")
    told = [*streamed.diverged(path, named_runs=named_runs), *_read(path, table, chosen)]
    return Table(table.columns, table.run, (*told, *table.notes), _AXES.get(_unit(chosen), "step"))


def _survey(
    path: Path, headings: list[str], rows: Callable[[], Iterable[Row]], asked: mapping.Asked
) -> tuple[mapping.Filled, Counter[str]]:
    """Return which cells are filled together, and how many rows each rank has."""
    filled, ranks = mapping.Filled(), Counter[str]()
    known = [i for i, h in enumerate(headings) if mapping.means_something(h) or h in asked.columns.values()]
    bare = {i for i, h in enumerate(headings) if (m := meaning(h)) is not None and m.rank >= BARE}
    tests = [(headings.index(h), text) for h, text in asked.where.items() if h in headings]
    split = mapping.split_heading_of(headings)
    split_at = headings.index(split) if split is not None and not asked.where else None
    rank_at = headings.index(RANK) if RANK in headings else None
    for line, cells in rows():
        if len(cells) != len(headings):
            raise SoonerError(
                f"row {line} of {path.name} has {len(cells)} cell{'s' * (len(cells) != 1)} and the heading "
                f"{len(headings)}; mend the row"
            )
        if any(str(cells[place]).strip() != text for place, text in tests):
            continue
        bits = 0
        for place in known:
            if not is_missing(cells[place]) and (place not in bare or looks_numeric(str(cells[place]))):
                bits |= 1 << place
        filled.rows[bits, split_of(str(cells[split_at])) if split_at is not None else ""] += 1
        if rank_at is not None and cells[rank_at] is not None and str(cells[rank_at]).isdecimal():
            ranks[str(cells[rank_at])] += 1
    return filled, ranks


def _finite(
    path: Path, columns: dict[str, FloatArray], run: npt.NDArray[np.str_] | None
) -> tuple[dict[str, FloatArray], npt.NDArray[np.bool_], list[str]]:
    """Return the columns, which rows have a loss with a logarithm, and what to say of the others."""
    kept = np.ones(len(next(iter(columns.values()))), dtype=np.bool_)
    if "loss" not in columns:
        return columns, kept, []
    loss = columns["loss"]
    kept = np.isfinite(loss) & (loss != 0.0)
    notes: list[str] = []
    infinite, zero = int((~np.isfinite(loss)).sum()), int((loss == 0.0).sum())
    if not kept.any():
        raise SoonerError(
            f"{path.name} has no loss that is positive and finite, in any row; laws are fitted on its logarithm: name "
            "another column with --column loss=HEADING"
        )
    if infinite:
        notes.append(f"{infinite} rows of {path.name} with an infinite loss, or none, were left out")
    if zero:
        runs = [kept | True] if run is None else [run == name for name in dict.fromkeys(run[loss == 0.0].tolist())]
        ends = "step" in columns and any(rows.sum() > 2 and (loss[rows][-2:] == 0.0).all() for rows in runs)
        told = f"{zero} rows of {path.name} with a loss of 0 were left out, as laws are fitted on its logarithm"
        notes.append(Doubt(f"{told}; the last ones are among them") if ends or 2 * zero > len(loss) else told)
    return columns, kept, notes


def _possible(path: Path, table: Table, numbers: npt.NDArray[np.intp]) -> None:
    """Refuse losses that no logarithm takes, and sizes and times that are negative or infinite."""
    if "loss" in table:
        loss = table["loss"]
        bad = np.flatnonzero(loss < 0)
        if bad.size:
            raise SoonerError(
                f"row {numbers[bad[0]]} of {path.name} has the loss {loss[bad[0]]:g}; losses must be positive and "
                "finite, as laws are fitted on their logarithm: drop the row, or name another column with "
                "--column loss=HEADING"
            )
    for name in NOT_NEGATIVE:
        bad = np.flatnonzero(np.isinf(table[name]) | (table[name] < 0)) if name in table else np.empty(0, dtype=int)
        if bad.size:
            raise SoonerError(
                f"row {numbers[bad[0]]} of {path.name} has {name} {table[name][bad[0]]:g}, which can't be negative or "
                f"infinite; mend the row, or name another column with --column {name}=HEADING"
            )


def _one_kind(
    path: Path, headings: list[str], chosen: mapping.Chosen, kept: list[Row], table: Table, asked: mapping.Asked
) -> None:
    """Refuse final losses of several kinds: the same size and tokens, and another loss for every text of a column.

    Raises:
        SoonerError: names the column, and how to pick one kind.
    """
    inputs = [
        n for n in ("parameters", "tokens", "compute", "batch", "lr", "unique_tokens", "experts", "width") if n in table
    ]
    called = inputs
    if "step" in table:
        inputs, called = ["step"], [_AXES.get(_unit(chosen), "step")]
    if "loss" not in table or not inputs or "run" in asked.columns:
        return
    runs = table.run.tolist() if "step" in table and "run" in chosen.columns else [""] * len(table)
    rows = np.column_stack([table[n] for n in inputs]).tolist()
    places = [(run, *row) for run, row in zip(runs, rows, strict=True)]
    for place, heading in enumerate(headings):
        if heading in chosen.columns.values() and heading != chosen.columns.get("run"):
            continue
        texts = [str(cells[place]).strip() for _, cells in kept]
        kinds = list(dict.fromkeys(texts))
        if not 2 <= len(kinds) <= min(_LABELS, len(texts) // 3) or all(_is_a_number(text) for text in kinds):
            continue
        seen: dict[tuple[object, ...], set[str]] = {}
        for at, text in zip(places, texts, strict=True):
            seen.setdefault(at, set()).add(text)
        shared = sum(len(one) > 1 for one in seen.values())
        if 2 * shared >= len(seen):
            raise several(
                path.name,
                f"has other losses at the same {', '.join(called)} by {heading!r} ({listed(kinds[:4])}), so no law "
                f"holds for all: pick one with --where {heading!r}={kinds[0]!r}",
                remedy="",
            )


def _is_a_number(text: str) -> bool:
    try:
        number(text, False)
    except ValueError:
        return False
    return True


def _read(path: Path, table: Table, chosen: mapping.Chosen) -> list[str]:
    """Return what was read in one line: rows, runs, split and unit of the axis."""
    if "step" not in table:
        return []
    runs = table.runs
    of = f"{len(runs)} runs" if len(runs) > 1 else "1 run"
    unit = _unit(chosen)
    split = f"{chosen.split} losses, " if chosen.split else ""
    first, last = float(table["step"].min()), float(table["step"].max())
    return [f"{path.name}: {len(table):,} rows of {of}, {split}{unit} {first:g} to {last:g}"]


_AXES = {"epochs": "epoch", "tokens or samples": "token", "seconds": "second", "rows": "row"}
"""The axis of a table by what it counts."""


def _unit(chosen: mapping.Chosen) -> str:
    """Return what the axis counts."""
    heading = chosen.columns.get("step", "step").removesuffix(mapping.ABOVE)
    meant = meaning(heading)
    units = {"epoch": "epochs", "tokens": "tokens or samples", "seconds": "seconds"}
    return "rows" if heading == mapping.ROWS else "steps" if meant is None else units.get(meant.column, "steps")
