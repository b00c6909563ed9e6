"""Reading measurements: tables, curves and logs, each told from the others by what it holds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sooner.error import SoonerError, nearest
from sooner.forecast.read.journal import FILE
from sooner.forecast.read.kinds import ENDINGS, ending, reader
from sooner.forecast.read.mapping import Asked
from sooner.forecast.read.mlflow_runs import mlflow_runs
from sooner.forecast.read.optional import holds_events
from sooner.forecast.schedules import parse
from sooner.forecast.table import Doubt, Table, join, listed

__all__ = ["POINTS", "SAMPLES", "read", "reads"]


def read(
    paths: Sequence[Path],
    *,
    columns: Mapping[str, str] | None = None,
    where: Mapping[str, str] | None = None,
    lr: str | None = None,
    split: str | None = None,
    run: str | None = None,
    curve: bool = False,
) -> Table:
    """Return one table of all files.

    Args:
        paths: files, folders of them, or sample:NAME for a curve that comes with sooner.
        columns: heading by column, where the automatic choice is not meant; run may join several by +.
        where: the text that the cells under a heading must be; other rows are left out.
        lr: the schedule of every run, where the files do not hold the learning rate.
        split: validation, test or training, of whose losses the curve is wanted. Default: the first that has enough.
        run: of several runs, the one that is to stand last, which is the one whose curve goes on. Default: as in the
            files.
        curve: whether a curve is wanted, along tokens where the files have no steps.

    Raises:
        SoonerError: a file that can't be read, or files that don't go together.
    """
    files = [file for path in paths for file in _files(Path(path))]
    if not files:
        raise SoonerError("name at least one file of measurements, such as runs.csv")
    asked = Asked(columns or {}, where or {}, split, curve)
    tables = [reader(file)(file, asked) for file in files]
    tables = [_apart(table, file, len(files)) for table, file in zip(tables, files, strict=True)]
    for axis, other in (("step", "tokens"), ("tokens", "step")):
        with_axis = [f.name for t, f in zip(tables, files, strict=True) if axis in t and other not in t]
        without = [f.name for t, f in zip(tables, files, strict=True) if other in t and axis not in t]
        if with_axis and without:
            raise SoonerError(
                f"{with_axis[0]} counts {axis} and {without[0]} {other}; give all files the same unit "
                "(tokens = step x batch)"
            )
    joined = join(tables)
    joined = Table(joined.columns, joined.run, _once(joined, files), joined.axis)
    table = _averaged(_last(joined, run))
    return table if lr is None else _with_rates(table, lr)


POINTS = 1000
"""Rows kept of a curve."""
SAMPLES = Path(__file__).parents[1] / "samples"
"""Curves of our own that come with sooner, made by samples/make.py; named sample:NAME."""


def _sample(name: str) -> Path:
    known = sorted(file.stem for file in SAMPLES.glob("*.csv"))
    if name not in known:
        raise SoonerError(f"there is no sample {name!r}{nearest(name, known)}; there are {', '.join(known)}")
    return SAMPLES / f"{name}.csv"


def _files(path: Path) -> list[Path]:
    if str(path).startswith("sample:"):
        return [_sample(str(path).removeprefix("sample:"))]
    if not path.is_dir() or (path / FILE).exists() or holds_events(path) or mlflow_runs(path):
        return [path]
    known = sorted(file for file in path.iterdir() if file.is_file() and ending(file) in ENDINGS)
    found = [file for file in known if len(known) == 1 or ending(file) not in _OFTEN_TEXT or reads(file)]
    if not found:
        raise SoonerError(f"the folder {path} has no file of measurements ({', '.join(ENDINGS)}); name another")
    return found


_OFTEN_TEXT = (".txt", ".md", ".out", ".json", ".log")
"""Endings of files that often stand beside measurements and hold none."""


def reads(path: Path) -> bool:
    """Return whether a file can be read as measurements."""
    try:
        reader(path)(path, Asked())
    except SoonerError:
        return False
    return True


_SAID = 3
"""Notes that differ only in the file or run, and in numbers, are said so often at most."""


def _once(table: Table, files: Sequence[Path]) -> tuple[str, ...]:
    """Return the notes of a table; where many say the same of many files or runs, the first and how many there are."""
    names = sorted({*(f.name for f in files), *(f.stem for f in files), *table.runs}, key=len, reverse=True)
    alike: dict[str, list[str]] = {}
    for note in table.notes:
        bare = next((note.replace(name, "", 1) for name in names if name in note), note)
        alike.setdefault(re.sub(r"\d[\d.,e+-]*", "#", bare), []).append(note)
    kept: list[str] = []
    for notes in alike.values():
        few = notes if len(notes) <= _SAID else [f"{notes[0]} (and {len(notes) - 1} more likewise)"]
        kept += [Doubt(one) if isinstance(notes[0], Doubt) else one for one in few]
    return tuple(kept)


def _last(table: Table, run: str | None) -> Table:
    """Return the table with the rows of a run behind all others.

    Raises:
        SoonerError: there is no such run.
    """
    if run is None:
        return table
    if run not in table.runs:
        raise SoonerError(f"there is no run {run!r}{nearest(run, table.runs)}; the runs are {listed(table.runs)}")
    own = table.run == run
    return table.where(np.concatenate([np.flatnonzero(~own), np.flatnonzero(own)]))


def _apart(table: Table, file: Path, files: int) -> Table:
    """Return the table with runs that no other file's runs are mistaken for."""
    if files == 1 or ("step" in table and table.runs == [file.stem]):
        return table
    return Table(table.columns, np.array([f"{file.stem}/{name}" for name in table.run]), table.notes, table.axis)


def _averaged(table: Table) -> Table:
    """Return curves in at most `POINTS` rows each, the means of neighbours: dense logs are noise to average away."""
    if "step" not in table or max(np.unique(table.run, return_counts=True)[1]) <= POINTS:
        return table
    pieces = []
    for name, run in table.each_run():
        if len(run) <= POINTS:
            pieces.append(run)
            continue
        block = np.arange(len(run)) * POINTS // len(run)
        size = np.bincount(block)
        columns = {key: np.bincount(block, values) / size for key, values in run.columns.items()}
        pieces.append(Table(columns, np.full(POINTS, name), table.notes, table.axis))
    return join(pieces).with_notes(f"curves of more than {POINTS} rows were averaged over neighbours to {POINTS}")


def _with_rates(table: Table, text: str) -> Table:
    if "step" not in table:
        raise SoonerError(
            "a schedule needs steps, and the files have none; name their column with --column step=HEADING"
        )
    schedule = parse(text, total=float(table["step"].max()))
    note = f"the learning rate is that of {schedule}"
    if "lr" in table:
        note += ", not that of the files"
    return table.plus(lr=schedule.lr(table["step"])).with_notes(note)
