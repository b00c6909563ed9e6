"""The table that every law is fitted on: one row per measurement, named columns, and the run of each row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sooner.error import SoonerError, nearest

FloatArray = npt.NDArray[np.float64]

FLOP_PER_PARAMETER_AND_TOKEN = 6.0
"""The convention C = 6 N D (forward and backward pass, attention left out) by which missing columns are derived."""

COLUMNS: dict[str, str] = {
    "step": "optimizer steps",
    "loss": "loss (nats per token unless the file says otherwise)",
    "before": "loss before a cool-down of the learning rate, in the unit of the loss",
    "lr": "learning rate in force at this step",
    "parameters": "model parameters",
    "tokens": "training tokens (or samples) seen",
    "compute": "training FLOP",
    "batch": "tokens (or samples) per step",
    "unique_tokens": "tokens in one pass over the data",
    "experts": "experts of a mixture-of-experts model",
    "width": "model width",
    "error": "task error, 0 to 1",
    "accuracy": "task accuracy, 0 to 1",
    "seconds": "wall time since the start of training",
}
"""The columns that laws know, with their units. Others are kept under their own names."""


_SAID = 16
"""Names that a message lists at most."""


def listed(names: Iterable[str]) -> str:
    """Return names for a message, of many only the first and how many more there are."""
    known = list(names)
    more = len(known) - _SAID
    return ", ".join(known) if more < 2 else f"{', '.join(known[:_SAID])} and {more} more"


LOGGED = "the loss is the logarithm of the perplexity"
"""How the note begins that a table has whose losses were read from perplexities: they are in nats."""


class Doubt(str):
    """A note on a table that answers say first: what follows is not what it seems, as of a run that diverged."""

    __slots__ = ()


@dataclass(frozen=True)
class Table:
    """Measurements in columns.

    Args:
        columns: arrays of equal length, float64; names from `COLUMNS` where one fits.
        run: the run that each row belongs to; every row is a run of its own where it is left out.
        notes: what was found and assumed while the table was made, in sentences.
        axis: what the column step counts: step, or epoch, row, second or token where a curve has no steps.

    Raises:
        SoonerError: no columns, or columns of unequal length.
    """

    columns: Mapping[str, FloatArray]
    run: npt.NDArray[np.str_] = field(default_factory=lambda: np.empty(0, dtype="<U1"))
    notes: tuple[str, ...] = ()
    axis: str = "step"

    def __post_init__(self) -> None:
        columns = {name: np.ascontiguousarray(values, dtype=np.float64) for name, values in self.columns.items()}
        lengths = {name: len(values) for name, values in columns.items()}
        if not lengths:
            raise SoonerError("a table needs columns, such as step and loss")
        if len(set(lengths.values())) > 1:
            raise SoonerError(f"the columns have different lengths: {lengths}; give each row a value in every column")
        rows = next(iter(lengths.values()))
        run = np.asarray(self.run, dtype=np.str_)
        if not run.size and rows:
            run = np.arange(rows).astype(np.str_)
        if len(run) != rows:
            raise SoonerError(f"there are {rows} rows and {len(run)} names of runs; name one run per row")
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "run", run)

    def __len__(self) -> int:
        return len(self.run)

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> FloatArray:
        """Return a column.

        Raises:
            SoonerError: there is no such column; names the nearest.
        """
        if name not in self.columns:
            raise SoonerError(
                f"there is no column {name!r}{nearest(name, self.columns)}; the table has {listed(self.columns)}"
            )
        return self.columns[name]

    @property
    def runs(self) -> list[str]:
        """The names of the runs, in the order in which they first appear."""
        return list(dict.fromkeys(self.run.tolist()))

    def where(self, rows: npt.NDArray[Any]) -> Table:
        """Return the rows chosen by a mask or by indices."""
        return Table(
            {name: values[rows] for name, values in self.columns.items()}, self.run[rows], self.notes, self.axis
        )

    def each_run(self) -> Iterator[tuple[str, Table]]:
        """Yield every run with its rows."""
        for name in self.runs:
            yield name, self.where(self.run == name)

    def only(self, runs: Sequence[str]) -> Table:
        """Return the rows of these runs."""
        return self.where(np.isin(self.run, list(runs)))

    def evenly(self, count: int) -> Table:
        """Return so many rows at most, evenly spaced, the first and the last among them."""
        if len(self) <= count:
            return self
        return self.where(np.unique(np.linspace(0, len(self) - 1, count).round().astype(np.intp)))

    def last(self) -> Table:
        """Return the last row of each run."""
        names, position = self.run.tolist(), {}
        for row, name in enumerate(names):
            position[name] = row
        return self.where(np.array(sorted(position.values()), dtype=np.intp))

    def furthest(self, over: str, target: str) -> float:
        """Return the target where `over` is largest (the last such row), or in the last row where it is unknown."""
        at = len(self) - 1
        if over in self:
            at = int(np.flatnonzero(self[over] == self[over].max())[-1])
        return float(self[target][at])

    def plus(self, **columns: npt.ArrayLike) -> Table:
        """Return the table with columns added or replaced."""
        added = {name: np.broadcast_to(np.asarray(v, dtype=np.float64), len(self)) for name, v in columns.items()}
        return Table({**self.columns, **added}, self.run, self.notes, self.axis)

    def without(self, name: str) -> Table:
        """Return the table without a column; as it is where there is none of this name."""
        kept = {one: values for one, values in self.columns.items() if one != name}
        return Table(kept, self.run, self.notes, self.axis)

    def with_notes(self, *notes: str) -> Table:
        """Return the table with these sentences added to its notes."""
        return Table(self.columns, self.run, tuple(dict.fromkeys((*self.notes, *notes))), self.axis)

    def require(self, *names: str) -> Table:
        """Return the table with these columns, derived by C = 6 N D (noted) where two of the three are there.

        Raises:
            SoonerError: a column is missing and can't be derived.
        """
        table = self
        for name in names:
            if name not in table:
                table = table._derive(name)
        return table

    def _derive(self, name: str) -> Table:
        six = FLOP_PER_PARAMETER_AND_TOKEN
        if name == "compute" and "parameters" in self and "tokens" in self:
            made = six * self["parameters"] * self["tokens"]
        elif name == "tokens" and "parameters" in self and "compute" in self:
            made = self["compute"] / (six * self["parameters"])
        elif name == "tokens" and "step" in self and "batch" in self:
            made = self["step"] * self["batch"]
            return self.plus(tokens=made).with_notes("tokens = step x batch")
        elif name == "parameters" and "tokens" in self and "compute" in self:
            made = self["compute"] / (six * self["tokens"])
        elif name == "unique_tokens" and "tokens" in self and "epoch" in self:
            made = self["tokens"] / self["epoch"]
            return self.plus(unique_tokens=made).with_notes("unique_tokens = tokens / epochs")
        elif name == "error" and "accuracy" in self:
            return self.plus(error=1.0 - self["accuracy"]).with_notes("error = 1 - accuracy")
        elif name == "accuracy" and "error" in self:
            return self.plus(accuracy=1.0 - self["error"]).with_notes("accuracy = 1 - error")
        else:
            raise SoonerError(
                f"the column {name!r} is missing ({COLUMNS.get(name, 'needed by this law')}); the table has "
                f"{listed(self.columns)}; name it with --column {name}=HEADING"
            )
        return self.plus(**{name: made}).with_notes(f"{name} was derived by FLOP = 6 x parameters x tokens")


def table(run: npt.ArrayLike | None = None, /, **columns: npt.ArrayLike) -> Table:
    """Return a table of these columns; numbers are repeated for every row.

    Args:
        run: the run of each row, or one name for all; left out, every row is a run of its own.
        columns: such as parameters=[...], tokens=[...], loss=[...].

    Raises:
        SoonerError: no columns, or lists of unequal length.
    """
    made = {name: np.atleast_1d(np.asarray(values, dtype=np.float64)) for name, values in columns.items()}
    rows = max((len(values) for values in made.values()), default=0)
    made = {name: np.repeat(values, rows) if len(values) == 1 else values for name, values in made.items()}
    if run is None:
        return Table(made)
    names = np.atleast_1d(np.asarray(run, dtype=np.str_))
    return Table(made, np.repeat(names, rows) if len(names) == 1 else names)


def join(tables: Sequence[Table]) -> Table:
    """Return one table of the rows of all, with the columns that all have.

    Raises:
        SoonerError: no tables, steps that count different things, or no column that all of them have.
    """
    if not tables:
        raise SoonerError("there are no rows to join; name a file that has some")
    shared = [name for name in tables[0].columns if all(name in other for other in tables)]
    if not shared:
        raise SoonerError("the files share no column; name columns with --column, such as --column loss=val_loss")
    axes = list(dict.fromkeys(one.axis for one in tables if "step" in one))
    if len(axes) > 1:
        raise SoonerError(
            f"the files count {' and '.join(f'{axis}s' for axis in axes)}; give all the same unit, with --column "
            "step=HEADING where they have it"
        )
    columns = {name: np.concatenate([one[name] for one in tables]) for name in shared}
    notes = tuple(dict.fromkeys(note for one in tables for note in one.notes))
    return Table(columns, np.concatenate([one.run for one in tables]), notes, axes[0] if axes else "step")
