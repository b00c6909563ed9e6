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
from sooner.forecast.numbers import commas_are_decimal, is_cut, is_missing, looks_numeric, number
from sooner.forecast.read import mapping
from sooner.forecast.read.names import BARE, KINDS, meaning, plain, split_of
from sooner.forecast.read.pairs import RANK
from sooner.forecast.read.runs import refuse_backward, several, told_apart
from sooner.forecast.read.thin import Backward, Row, Thinned
from sooner.forecast.table import Doubt, FloatArray, Table, listed

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
_CUT_AMONG = 5
"""A last row that seems cut off is left out where there are as many as this besides."""
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
    streamed = _Streamed(path, headings, chosen, asked, ranks, log=log)
    for row in rows():
        streamed.add(row)
    kept = streamed.finish()
    notes = [*chosen.notes, *streamed.kept.note(path.name)]
    if len(ranks) > 1:
        notes.append(f"{path.name} has lines of {len(ranks)} ranks; those of rank {min(ranks, key=int)} were read")
    if (end := cut()) is not None and _is_cut(kept, end, *streamed.measured):
        kept = kept[:-1]
        notes.append(f"the last line of {path.name} is unfinished and was left out")
    columns = _columns(path, headings, chosen, kept, notes, decimal_comma=decimal_comma, log=log)
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


class _Streamed:
    """Takes the rows of a file one by one: picks those with a loss, counts and thins them."""

    def __init__(
        self,
        path: Path,
        headings: list[str],
        chosen: mapping.Chosen,
        asked: mapping.Asked,
        ranks: Counter[str],
        *,
        log: bool,
    ) -> None:
        columns = chosen.columns
        self._name, self._where, self._headings = path.name, asked.where, headings
        self._tests = [(headings.index(heading), text) for heading, text in asked.where.items()]
        self.loss, self._step, self._lr = (self._place(columns.get(n)) for n in ("loss", "step", "lr"))
        self._run = [headings.index(one) for one in mapping.parts(columns["run"], headings)] if "run" in columns else []
        self._also = self._other_kinds(columns) if "run" in columns and "run" not in asked.columns else []
        self._alike = "run" in columns and "run" not in asked.columns
        self._split = (
            (headings.index(chosen.split_heading), chosen.rows) if chosen.rows and chosen.split_heading else None
        )
        self._rank = (headings.index(RANK), min(ranks, key=int)) if len(ranks) > 1 else None
        steps = [i for i, h in enumerate(headings) if (m := meaning(h)) is not None and m.column == "step"]
        self._steps = ([] if self._step is None else [self._step]) + [i for i in steps if i != self._step]
        self._losses = [i for i, h in enumerate(headings) if (m := meaning(h)) is not None and m.column == "loss"]
        self._losses += [self.loss] if self.loss is not None and self.loss not in self._losses else []
        self._log, self._other = log, 0
        self._backward, self._rates = Backward(), Thinned()
        self._bad: dict[tuple[str, int], str] = {}
        self._ended: dict[str, str] = {}
        self.kept = Thinned()
        self.blank = 0
        """Rows that were to have a loss and have none."""

    def _place(self, heading: str | None) -> int | None:
        return self._headings.index(heading) if heading in self._headings else None

    def _other_kinds(self, columns: dict[str, str]) -> list[int]:
        """Return the places of seeds and trials, which tell runs of one name apart."""
        return [
            i
            for i, h in enumerate(self._headings)
            if plain(h) in KINDS and plain(h) != "model" and h not in columns["run"].split("+")
        ]

    @property
    def measured(self) -> tuple[int | None, int | None, int | None]:
        """The places of step, loss and learning rate."""
        return self._step, self.loss, self._lr

    def run(self, cells: Sequence[object]) -> str:
        """Return the name of a row's run."""
        return "/".join(str(cells[place]) for place in self._run)

    def names(self, kept: list[Row]) -> list[str]:
        """Return the run of every row; seeds, and rows, that share a name and a step are runs of their own."""
        names = [self.run(cells) for _, cells in kept]
        for place in self._also:
            seen: dict[tuple[str, str], str] = {}
            for name, (_, cells) in zip(names, kept, strict=True):
                at = "" if self._step is None else str(cells[self._step])
                if seen.setdefault((name, at), str(cells[place])) != str(cells[place]):
                    names = [f"{one}/{cells[place]}" for one, (_, cells) in zip(names, kept, strict=True)]
                    break
        if self._step is None or not self._alike:
            return names
        steps: dict[str, list[str]] = {}
        for name, (_, cells) in zip(names, kept, strict=True):
            steps.setdefault(name, []).append(str(cells[self._step]))
        final = {name for name, own in steps.items() if len(own) > 1 and len(set(own)) == 1}
        return [f"{name}/row {n}" if name in final else name for name, (n, _) in zip(names, kept, strict=True)]

    def add(self, row: Row) -> None:
        """Take a row."""
        _, cells = row
        if any(str(cells[place]).strip() != text for place, text in self._tests):
            return
        if self._rank is not None and str(cells[self._rank[0]]) not in (self._rank[1], "None", ""):
            return
        run = self.run(cells)
        step = next((str(cells[at]).strip() for at in self._steps if not is_missing(cells[at])), "")
        if self._lr is not None and not is_missing(cells[self._lr]) and step:
            self._rates.add((0, (run, step, cells[self._lr])))
        if self._split is not None and split_of(str(cells[self._split[0]])) != self._split[1]:
            return
        for place in self._losses:
            if not is_missing(cells[place]):
                self._mark(run, place, str(cells[place]), step)
        if self.loss is not None and is_missing(cells[self.loss]):
            others = self._log or any(not is_missing(cells[place]) for place in self._losses)
            self.blank += not others
            self._other += bool(others)
            return
        if self.loss is not None and _is_nan(cells[self.loss]):
            self.blank += 1
            return
        if self._step is not None:
            try:
                at = number(str(cells[self._step]), False)
            except ValueError:
                at = float("nan")
            self._backward.add(run, at)
        self.kept.add(row)

    def _mark(self, run: str, place: int, text: str, step: str) -> None:
        """Remember since when a loss is not finite."""
        if text.strip().lower().lstrip("+-") in ("nan", "inf", "infinity"):
            self._bad.setdefault((run, place), step)
        else:
            self._bad.pop((run, place), None)
            if place == self.loss:
                self._ended[run] = step

    def diverged(self, path: Path, *, named_runs: bool) -> list[Doubt]:
        """Return what to say of runs whose losses end as NaN or infinity."""
        since: dict[str, str] = {}
        for (run, place), step in self._bad.items():
            if place == self.loss or _later(step, self._ended.get(run)):
                since.setdefault(run, step)
        return [
            Doubt(
                f"{run if named_runs else path.stem} diverged: its loss is NaN or infinite"
                f"{f' from step {step} on' if step else ' at the end'}; what follows is of the rows before"
            )
            for run, step in since.items()
        ][:3]

    def finish(self) -> list[Row]:
        """Return the rows kept.

        Raises:
            SoonerError: there are none, or the file was long and its steps go back again and again.
        """
        kept = self.kept.rows
        if not kept and (self.blank or self._other):
            raise SoonerError(f"{self._name} has no loss in any row; name the column with --column loss=HEADING")
        if not kept and self._where:
            wanted = ", ".join(f"{heading} {text!r}" for heading, text in self._where.items())
            raise SoonerError(f"{self._name} has no row with {wanted}; write the cells as they are in the file")
        if not kept:
            raise SoonerError(f"{self._name} has headings and no rows; give a file with measurements")
        refuse_backward(self._name, self._backward, self.kept)
        return kept

    def rates(self, path: Path, table: Table, *, decimal_comma: bool) -> Table:
        """Return the table with the learning rates that other rows hold, between which it is interpolated."""
        if self._lr is None or "step" not in table or ("lr" in table and not np.isnan(table["lr"]).any()):
            return table
        known: dict[str, tuple[list[float], list[float]]] = {}
        for _, (run, step, lr) in self._rates.rows:
            try:
                x, y = number(str(step), decimal_comma), number(str(lr), decimal_comma)
            except ValueError:
                continue
            if np.isfinite(x) and np.isfinite(y) and y >= 0:
                xs, ys = known.setdefault(str(run), ([], []))
                xs.append(x)
                ys.append(y)
        made = np.full(len(table), np.nan)
        for name in table.runs:
            rows = table.run == name
            key = next((k for k in (name, name.rsplit("/", 1)[0], "") if k in known), None)
            if key is not None:
                order = np.argsort(known[key][0], kind="stable")
                made[rows] = np.interp(
                    table["step"][rows], np.array(known[key][0])[order], np.array(known[key][1])[order]
                )
        if np.isnan(made).any():
            rest = {n: v for n, v in table.columns.items() if n != "lr"}
            if not known:
                return Table(rest, table.run, table.notes)
            note = f"the learning rate of {path.name} is known in some rows only and was left out; say it with --lr"
            return Table(rest, table.run, table.notes).with_notes(note)
        return table.plus(lr=made).with_notes(f"the learning rate of {path.name} was interpolated between its rows")


def _later(step: str, last: str | None) -> bool:
    try:
        return last is None or number(step, False) > number(last, False)
    except ValueError:
        return False


def _is_nan(cell: object) -> bool:
    return cell != cell or str(cell).strip().lower() in ("nan", "-nan", "+nan")


def _is_cut(kept: list[Row], end: int, step: int | None, loss: int | None, rate: int | None) -> bool:
    """Return whether the last row, in a line that has no end, goes back or has a shorter number than any above it."""
    if len(kept) <= _CUT_AMONG or kept[-1][0] != end:
        return False
    if step is not None and _later(str(kept[-2][1][step]), str(kept[-1][1][step])):
        return True  # the 13 of step 1300
    for place in (loss, rate):
        texts = [] if place is None else [str(cells[place]) for _, cells in kept if not is_missing(cells[place])]
        known = len(texts) > _CUT_AMONG and not texts[-1].lower().startswith("n")
        if known and is_cut(texts[-1], texts[:-1], exponent=place == rate):
            return True
    return False


def _columns(
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
            notes.append(f"the loss is the logarithm of the perplexity {heading!r}")
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
