"""What the `sooner forecast` commands do: read, fit, answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

from rich.console import Console
from rich.table import Table as Grid

from sooner.cli.forecast.asked import (
    all_read,
    checked_numbers,
    column_of,
    law_named,
    of_final_losses,
    pairs,
    places,
    positive,
)
from sooner.cli.forecast.options import Choice, Reading
from sooner.cli.forecast.worth import Worth
from sooner.error import SoonerError
from sooner.forecast import laws
from sooner.forecast.automatic import candidates
from sooner.forecast.check import Check, Leave, check, choose
from sooner.forecast.curve import Curve, forecast_curve
from sooner.forecast.decide.cells import one_per_cell
from sooner.forecast.decide.influence import influence_warning
from sooner.forecast.decide.when import when
from sooner.forecast.early import without_early
from sooner.forecast.fit import fit
from sooner.forecast.fitted import Fit
from sooner.forecast.law import Law
from sooner.forecast.laws.power_floor import PowerFloor
from sooner.forecast.read import read
from sooner.forecast.schedule_file import schedule_of
from sooner.forecast.schedules import parse
from sooner.forecast.table import Table
from sooner.report import html
from sooner.report.forecast import build, page, terminal, waits
from sooner.report.forecast.answer import Answer

AUTO = "auto"
LEAVES = ("largest", "curve", "end")


def list_laws() -> None:
    """Print the laws."""
    grid = Grid("law", "formula", "reads", "source", box=None, pad_edge=False)
    for column in grid.columns:
        column.overflow = "fold"
    for name, law in laws.classes().items():
        reads = ", ".join(law.needs) if hasattr(law, "needs") else "one column (--over)"
        grid.add_row(name, law.formula, reads, law.source)
    Console(highlight=False).print(grid)


def run_fit(files: list[Path], given: Choice) -> None:
    """Fit a law and show it."""
    with working() as told:
        rows, law, errors = ready(files, given, told)
        fitted = doubted(fit(law, rows, draws=given.draws))
        told("leaving out")
        answer = build.of_fit(fitted, _checked(law, rows, given), errors)
    finish(answer, given)


def run_predict(files: list[Path], at: list[str], given: Choice) -> None:
    """Fit a law and show what it predicts elsewhere."""
    with working() as told:
        rows, law, errors = ready(files, given, told)
        of_final_losses(law, "predict")
        where = places(at, law.needs, law.name)
        fitted = doubted(fit(law, rows, draws=given.draws))
        made = fitted.predict(where, given.level)
        told("leaving out")
        shown = _checked(law, rows, given)
        answer = build.of_prediction(fitted, where, made, shown, errors, _plain(fitted, where))
    finish(answer, given)


def run_curve(
    files: list[Path],
    given: Choice,
    *,
    schedule: str | None,
    total: float | None,
    target: float | None,
    run: str | None = None,
) -> None:
    """Forecast the rest of a run, or a run under another schedule, and show it."""
    positive(target=target)
    with working() as told:
        rows, made = carried_on(files, given, schedule, total, told, run)
        answer = build.of_curve(made, rows, target)
    finish(answer, given)


def run_when(
    files: list[Path], given: Choice, *, target: float, schedule: str | None, total: float | None, worth: str | None
) -> None:
    """Say when the last run reaches the target, and whether to go on, and show it."""
    positive(target=target)
    valued = None if worth is None else Worth.of(worth)
    with working() as told:
        rows, made = carried_on(files, given, schedule, total, told)
        found = when(made, rows, target)
        choice = None if valued is None else found.choose(valued.steps(found.seconds_per_step))
        answer = waits.of_when(found, choice, made, rows)
    finish(answer, given)


def carried_on(
    files: list[Path],
    given: Choice,
    schedule: str | None,
    total: float | None,
    told: working,
    run: str | None = None,
) -> tuple[Table, Curve]:
    """Return the rows, and the forecast of how their last run, or the one named, goes on.

    Raises:
        SoonerError: anything the user can mend.
    """
    checked_numbers(given)
    positive(total=total)
    rows = measured(files, given, given.lr, run=run, curve=True)
    reached = float(rows.require("step")["step"].max())
    peak = float(rows["lr"].max()) if "lr" in rows else None
    meant = None if schedule is None else schedule_of(schedule, total=total or reached, peak=peak)
    if schedule is None and given.lr is not None:
        own = parse(given.lr, total=reached, peak=peak)
        meant = own if own.total > reached else None  # the run goes on along its own schedule
    over = None if given.over is None else column_of(given.over, rows)
    law = None if given.law == AUTO else law_named(given.law, over, rows)
    told("fitting")
    return rows, forecast_curve(rows, schedule=meant, total=total, law=law, level=given.level, draws=given.draws)


def run_check(files: list[Path], given: Choice, *, leave: str) -> None:
    """Leave something out, predict it, and show error and coverage."""
    if leave not in (AUTO, *LEAVES):
        raise SoonerError(f"--leave is {leave!r}; leave out {', '.join(LEAVES)} or {AUTO}")
    out = None if leave == AUTO else cast(Leave, leave)
    with working() as told:
        rows, law, errors = ready(files, given, told, out)
        told("leaving out")
        made = check(law, rows, out, level=given.level, draws=given.draws)
    finish(build.of_check(made, errors, rows.notes), given)


class working:  # noqa: N801 - used like a function
    """Show on standard error what is being done; nothing where that is no terminal."""

    def __init__(self) -> None:
        self._status = Console(stderr=True).status("reading")

    def __enter__(self) -> working:
        self._status.start()
        return self

    def __call__(self, what: str) -> None:
        """Say what is being done now."""
        self._status.update(what)

    def __exit__(self, *_: object) -> Literal[False]:
        self._status.stop()
        return False


def finish(answer: Answer, given: Reading) -> None:
    """Print the answer, or its JSON, and write the report where one is asked for.

    Raises:
        SoonerError: the report can't be written; the answer is on the screen by then.
    """
    if given.json:
        print(json.dumps(html.finite(answer.json()), indent=1, allow_nan=False))
    else:
        terminal.show(answer, Console(highlight=False))
    if given.out is not None:
        written = page.write(answer, given.out)
        Console(stderr=given.json, highlight=False).print(f"report: {written}", soft_wrap=True, markup=False)


def measured(
    files: list[Path], given: Reading, lr: str | None = None, *, run: str | None = None, curve: bool = False
) -> Table:
    """Return the rows of the files, read as the user says, from the first step on: at step 0 no law holds."""
    where = pairs(given.where, "--where", "HEADING=TEXT", "kind=val")
    rows = read(files, columns=pairs(given.column), where=where, lr=lr, split=given.split, run=run, curve=curve)
    if "step" not in rows or not (rows["step"] <= 0).any():
        return rows
    begun = rows["step"] > 0
    if not begun.any():
        raise SoonerError("all rows are at step 0, before the first step; give a file with later ones")
    return rows.where(begun).with_notes(f"{int((~begun).sum())} rows at step 0 were left out, where no law holds")


def ready(
    files: list[Path], given: Choice, told: working, leave: Leave | None = None
) -> tuple[Table, Law, dict[str, float]]:
    """Return the rows that a law is fitted to, the law, and the left-out errors by which it was chosen.

    Raises:
        SoonerError: anything the user can mend.
    """
    rows, law, errors = chosen(files, given, told, leave)
    return without_early(law, rows), law, errors


def chosen(
    files: list[Path], given: Choice, told: working, leave: Leave | None = None
) -> tuple[Table, Law, dict[str, float]]:
    """Return all rows, the law, and the left-out errors by which it was chosen.

    Raises:
        SoonerError: anything the user can mend.
    """
    checked_numbers(given)
    rows = measured(files, given, given.lr)
    over = None if given.over is None else column_of(given.over, rows)
    if given.law != AUTO:
        told("fitting")
        law = law_named(given.law, over, rows)
        return of_cells(law, all_read(law, rows, pairs(given.column))), law, {}
    told("choosing a law")
    possible = candidates(rows, over)
    rows = all_read(possible[0], rows, pairs(given.column))
    made = _choice(of_cells(possible[0], rows), possible, leave)
    told("fitting")
    return made


def of_cells(law: Law, rows: Table) -> Table:
    """Return the rows as a law of final losses in size and data wants them: one for each such cell."""
    if set(law.needs) != {"parameters", "tokens"}:
        return rows
    try:
        rows.require("parameters", "tokens", "loss")
    except SoonerError:
        return rows  # the law says what is missing
    return one_per_cell(rows)


def doubted(fitted: Fit) -> Fit:
    """Return the fit with a warning added where a few runs decide it."""
    told = influence_warning(fitted)
    return fitted if told is None else replace(fitted, warnings=(*fitted.warnings, told))


def _choice(rows: Table, possible: list[Law], leave: Leave | None) -> tuple[Table, Law, dict[str, float]]:
    if len(possible) == 1:
        return rows, possible[0], {}
    try:
        return rows, *choose(possible, rows, leave)
    except SoonerError as error:
        note = f"no law could be chosen by leaving out ({error}); this is the plainest"
        return rows.with_notes(note), possible[0], {}


def _checked(law: Law, rows: Table, given: Reading) -> Check | None:
    try:
        return check(law, rows, level=given.level, draws=given.draws)
    except SoonerError:
        return None


def _plain(fitted: Fit, where: Table) -> Any:
    """Return what a power law with a floor predicts there; None where it can't be fitted."""
    if fitted.law.target != "loss" or isinstance(fitted.law, PowerFloor):
        return None
    try:
        return fit(PowerFloor(fitted.law.over), fitted.table, draws=2).predict(where)
    except SoonerError:
        return None
