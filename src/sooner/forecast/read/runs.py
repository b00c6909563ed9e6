"""The runs of a file: told apart, each in the order of its steps; what is two runs in one is refused."""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.read.thin import Backward, Thinned
from sooner.forecast.table import FloatArray, Table

AGAIN = 2
"""A log that goes back to its first step this often holds several runs; once is a run that was begun anew."""
STRANDS = 4
"""Rows out of order that so few rising sequences hold are runs side by side; rows that were shuffled need many."""


def few(count: int) -> float:
    """Return how many steps backward a run of `count` rows may take, as after restarts."""
    return max(3, 0.02 * count)


REMEDY = (
    "; split the file, name the column that tells them apart with --column run=HEADING (or run=FIRST+SECOND), or pick "
    "one with --where HEADING=TEXT"
)


def several(name: str, how: str, remedy: str = REMEDY) -> SoonerError:
    """Return the refusal of a file that holds several runs."""
    return SoonerError(f"{name} {how}{remedy}")


def refuse_backward(name: str, backward: Backward, kept: Thinned) -> None:
    """Refuse a thinned file whose steps went back again and again; one that was kept whole is looked at later.

    Raises:
        SoonerError: it did.
    """
    if kept.stride > 1 and backward.times > few(kept.count):
        raise several(name, f"goes back to an earlier step {backward.times:,} times, as if two runs were interleaved")


def told_apart(path: Path, table: Table, *, epochs: bool) -> Table:
    """Return the table of curves with the steps of every run in order, counted from the first epoch on.

    Args:
        path: for messages.
        table: a row per measurement.
        epochs: whether the steps are epochs.

    Raises:
        SoonerError: no steps, or several runs in one.
    """
    if "step" not in table:
        return table
    pieces = [_ordered(path, _unrolled(path, run)) for _, run in table.each_run()]
    shared = [name for name in table.columns if all(name in piece for piece in pieces)]
    shared = [name for name in shared if name not in ("epoch", TOTAL)]
    columns = {name: np.concatenate([piece[name] for piece in pieces]) for name in shared}
    notes = tuple(dict.fromkeys(note for piece in pieces for note in piece.notes))
    made = Table(columns, np.concatenate([piece.run for piece in pieces]), notes)
    return _of_epochs(path, made) if epochs else made


TOTAL = "steps of an epoch"
"""The column of how many steps an epoch has, as in 12/400."""


def _unrolled(path: Path, run: Table) -> Table:
    """Return a run whose steps begin anew in every epoch with steps that go on."""
    if "epoch" not in run:
        return run
    steps, epoch = run["step"], run["epoch"]
    known = ~(np.isnan(steps) | np.isnan(epoch))
    back = np.flatnonzero(np.diff(steps[known]) <= 0)
    rises = np.diff(epoch[known])
    if not back.size or not (rises[back] > 0).all() or (rises < 0).any() or (epoch[known] % 1 != 0).any():
        return run
    gaps = np.diff(steps[known])
    gap = float(np.median(gaps[gaps > 0])) if (gaps > 0).any() else 1.0
    last = float(np.nanmax(steps))
    most = float(np.nanmax(run[TOTAL])) if TOTAL in run and not np.isnan(run[TOTAL]).all() else 0.0
    each = max(most, last + gap if np.nanmin(steps) == 0.0 and most == 0.0 else last)
    first = float(np.nanmin(epoch))
    told = f"the steps of {path.name} begin anew in every epoch: they were counted on, {each:g} to an epoch"
    made = run.plus(step=steps + each * (epoch - first)).with_notes(told)
    twice = np.diff(made["step"], append=np.inf) == 0  # the end of an epoch is the beginning of the next
    return made.where(~twice)


def _of_epochs(path: Path, table: Table) -> Table:
    """Return a table along epochs, the first of which is 1 where they are counted from 0."""
    steps = table["step"]
    whole = bool((steps % 1 == 0).all())
    if whole and steps.min() == 0.0:
        table = table.plus(step=steps + 1).with_notes(f"{path.name} counts epochs from 0: one was added to each")
    if not whole and "lr" in table:
        rest = {name: values for name, values in table.columns.items() if name != "lr"}
        told = "the learning rate is left out along fractions of epochs, as its laws count whole steps"
        table = Table(rest, table.run, table.notes).with_notes(told)
    return table


def _ordered(path: Path, run: Table) -> Table:
    """Return one run by step; a restart keeps what came later, two runs that alternate are refused."""
    steps = run["step"]
    blank = np.isnan(steps)
    if blank.all():
        raise SoonerError(
            f"{path.name} has no step in any row of {run.run[0]}; fill them in, name the column with "
            "--column step=HEADING, or pick other rows with --where HEADING=TEXT"
        )
    if blank.any():
        run = run.where(~blank).with_notes(f"{int(blank.sum())} rows of {path.name} without a step were left out")
        steps = run["step"]
    back = np.flatnonzero(np.diff(steps) < 0)
    if not back.size and not (np.diff(steps) == 0).any():
        return run
    _, first, counts = np.unique(steps, return_index=True, return_counts=True)
    repeated = bool((counts > 1).any())
    again = int((steps[back + 1] <= steps[0]).sum())
    often = back.size + int((np.diff(steps) == 0).sum()) > few(len(steps))
    if repeated and again >= AGAIN:
        raise several(path.name, f"begins anew {again} times, as if several runs stood one after the other")
    if repeated and often:
        twice = steps[first[counts > 1][0]]
        raise several(path.name, f"has step {twice:g} more than once, again and again, as if two runs were interleaved")
    if often and (strands := _strands(steps)) <= STRANDS:
        raise several(path.name, f"goes back and forth between {strands} rising steps, as if runs were interleaved")
    last = len(steps) - 1 - np.unique(steps[::-1], return_index=True)[1]
    note = (
        f"{path.name} goes back to an earlier step, as after a restart: the later rows were kept"
        if repeated
        else f"the steps of {path.name} were not in order; they were sorted"
    )
    return run.where(last).with_notes(note)


def _strands(steps: FloatArray) -> int:
    """Return the least number of rising sequences that (n,) steps can be dealt out to, by patience sorting."""
    ends: list[float] = []  # of the sequences, by minus the last step, so that they rise
    for step in (-steps).tolist():
        place = bisect_left(ends, step)
        # the sequence whose last step is the largest one still below takes the step
        if place < len(ends) and ends[place] == step:
            place += 1
        if place == len(ends):
            ends.append(step)
        else:
            ends[place] = step
    return len(ends)
