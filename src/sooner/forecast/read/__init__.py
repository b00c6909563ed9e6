"""Reading measurements: tables, curves and logs, each told from the others by ending and content."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from sooner.error import SoonerError, nearest
from sooner.forecast.read.delimited import read_delimited
from sooner.forecast.read.journal import FILE, read_journal
from sooner.forecast.read.lines import read_lines
from sooner.forecast.read.mapping import Asked
from sooner.forecast.read.optional import EVENTS, read_events, read_parquet
from sooner.forecast.read.text import opened
from sooner.forecast.read.training_log import read_training_log
from sooner.forecast.schedules import parse
from sooner.forecast.table import Table, join

Reader = Callable[[Path, Asked], Table]

ENDINGS: dict[str, Reader] = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".jsonl": read_lines,
    ".ndjson": read_lines,
    ".log": read_training_log,
    ".txt": read_training_log,
    ".parquet": read_parquet,
}
"""The reader of each ending; a further .gz is looked through."""


def read(
    paths: Sequence[Path],
    *,
    columns: Mapping[str, str] | None = None,
    where: Mapping[str, str] | None = None,
    lr: str | None = None,
) -> Table:
    """Return one table of all files.

    Args:
        paths: files, folders of them, or sample:NAME for a curve that comes with sooner.
        columns: heading by column, where the automatic choice is not meant; run may join several by +.
        where: the text that the cells under a heading must be; other rows are left out.
        lr: the schedule of every run, where the files do not hold the learning rate.

    Raises:
        SoonerError: a file that can't be read, or files that don't go together.
    """
    files = [file for path in paths for file in _files(Path(path))]
    if not files:
        raise SoonerError("name at least one file of measurements, such as runs.csv")
    asked = Asked(columns or {}, where or {})
    tables = [_reader(file)(file, asked) for file in files]
    tables = [_apart(table, file, len(files)) for table, file in zip(tables, files, strict=True)]
    for axis, other in (("step", "tokens"), ("tokens", "step")):
        with_axis = [f.name for t, f in zip(tables, files, strict=True) if axis in t and other not in t]
        without = [f.name for t, f in zip(tables, files, strict=True) if other in t and axis not in t]
        if with_axis and without:
            raise SoonerError(
                f"{with_axis[0]} counts {axis} and {without[0]} {other}; give all files the same unit "
                "(tokens = step x batch)"
            )
    table = _averaged(join(tables))
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
    if not path.is_dir() or (path / FILE).exists() or next(path.rglob(f"{EVENTS}*"), None) is not None:
        return [path]
    found = sorted(file for file in path.iterdir() if _ending(file) in ENDINGS)
    if not found:
        raise SoonerError(f"the folder {path} has no file of measurements ({', '.join(ENDINGS)}); name another")
    return found


def _ending(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix == ".gz" else path.suffix


def _reader(path: Path) -> Reader:
    if not path.exists():
        raise SoonerError(f"there is no file {path}; name one that is there")
    if path.is_dir():
        return read_journal if (path / FILE).exists() else read_events
    ending = _ending(path)
    if ending in ENDINGS:
        return ENDINGS[ending]
    with opened(path):  # says what is wrong with a file that is no text
        pass
    raise SoonerError(
        f"{path.name} has {f'the ending {ending!r}' if ending else 'no ending'}, which does not say what it is; rename "
        f"it to one of {', '.join(ENDINGS)}, also with .gz"
    )


def _apart(table: Table, file: Path, files: int) -> Table:
    """Return the table with runs that no other file's runs are mistaken for."""
    if files == 1 or ("step" in table and table.runs == [file.stem]):
        return table
    return Table(table.columns, np.array([f"{file.stem}/{name}" for name in table.run]), table.notes)


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
        pieces.append(Table(columns, np.full(POINTS, name), table.notes))
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
