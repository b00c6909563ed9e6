"""The rows of a file one by one: those that are asked for and have a loss are kept, a bounded number of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.numbers import is_cut, is_missing, number
from sooner.forecast.read import mapping
from sooner.forecast.read.names import KINDS, meaning, plain, split_of
from sooner.forecast.read.pairs import RANK
from sooner.forecast.read.runs import refuse_backward
from sooner.forecast.read.thin import Backward, Row, Thinned
from sooner.forecast.table import Doubt, Table

_CUT_AMONG = 5
"""A last row that seems cut off is left out where there are as many as this besides."""


class Streamed:
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


def ends_cut(kept: list[Row], end: int, step: int | None, loss: int | None, rate: int | None) -> bool:
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
