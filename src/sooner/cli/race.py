"""`sooner race`: make the plan from what was typed, run it, show progress, print the table, write the report."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from sooner.cli.placing import opened, place
from sooner.cli.power import check_power, show_power
from sooner.cli.progress import stoppable
from sooner.error import SoonerError
from sooner.race.journal import read
from sooner.race.limits import DEFAULT_SEEDS, LEAST_SEEDS
from sooner.race.plan import Plan
from sooner.race.planned import Planned
from sooner.race.pool import Pool
from sooner.race.referee import run
from sooner.recipe import Recipe
from sooner.recipe.text import split
from sooner.report import html, table
from sooner.watch import Watch, watching
from sooner.watch.pulse import Pulse
from sooner.workloads import find


def run_race(
    workload: str,
    recipes: str,
    *,
    seeds: int | None,
    looks: str | None,
    until: int | None,
    power: float | None,
    effect: float | None,
    as_json: bool,
    out: Path | None,
    jobs: int | None,
    log: str | None = None,
    **options: Any,
) -> None:
    """Run the race that the command line describes.

    Raises:
        SoonerError: anything the user can mend.
    """
    check_power(power, effect)
    sinks = watching(log)  # a tracker that isn't installed is told of before anything is tried
    console = Console(stderr=True, highlight=False)
    options = place(jobs, **options)
    pool = options.pop("pool")
    with contextlib.redirect_stdout(sys.stderr):  # what a task prints is not our result
        plan = Plan(
            find(workload),
            [Recipe(text) for text in split(recipes)],
            looks=looks_of(seeds, looks, until),
            until=until,
            out=out,
            command=shlex.join(["sooner", *sys.argv[1:]]),
            **options,
        )
    with opened(pool, plan) as workers:
        if power is not None:
            show_power(plan, power, effect, console, workers, as_json=as_json)
        else:
            run_plan(plan, console, sinks, workers, as_json=as_json)


def run_plan(plan: Planned, console: Console, sinks: Watch, workers: Pool | None = None, *, as_json: bool) -> None:
    """Race, with progress on the console, and show the result; Ctrl-C says what is kept.

    Raises:
        SoonerError: anything the user can mend.
    """
    folder = plan.folder()
    parameters = plan.checked["parameters"]
    size = "" if parameters is None else f"{parameters:,} parameters, "
    console.print(
        f"{plan.task.name}: {size}{plan.budget} steps, {plan.regime}; journal in {folder}",
        markup=False,
        soft_wrap=True,
    )
    for note in plan.warnings():
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    with stoppable(
        console, plan.jobs, lambda: f"{_finished_cells(folder)} finished cells are kept in {folder}"
    ) as progress:
        result = run(plan, [progress, Pulse(folder), sinks], workers)
    finish(result, folder, as_json=as_json)


def finish(result: dict[str, Any], folder: Path, *, as_json: bool) -> Path:
    """Print the table (or the JSON) and write the report beside the journal.

    Raises:
        SoonerError: the report can't be written; what was measured is on the screen by then.
    """
    console = Console(highlight=False)
    if as_json:
        print(json.dumps(result, indent=1, allow_nan=False))
    else:
        console.print(table.render(result))
    page = html.write(result, folder / "report.html")
    if not as_json:
        console.print(f"report: {page}", soft_wrap=True, markup=False)
    return page


def _finished_cells(folder: Path) -> int:
    """Count in the journal itself: Ctrl-C may fall between a cell's record and whoever counts along."""
    try:
        return len(read(folder).all("cell"))
    except SoonerError:  # stopped before the journal was begun
        return 0


def looks_of(seeds: int | None, looks: str | None, until: int | None) -> list[int]:
    """Return the numbers of seeds after which to judge.

    Raises:
        SoonerError: more than one of the options is given, or no such list.
    """
    given = [f"--{name} {value}" for name, value in (("seeds", seeds), ("looks", looks), ("until", until)) if value]
    if len(given) > 1:
        raise SoonerError(f"{' and '.join(given)} say in two ways when to judge; give one of them")
    if looks is None:
        return [DEFAULT_SEEDS if seeds is None else seeds]
    try:
        return [int(look) for look in looks.replace(",", " ").split()]
    except ValueError:
        raise SoonerError(
            f"--looks {looks!r} is not a list of seed counts; write it like 8,16,32, each {LEAST_SEEDS} or more, or "
            "--until 64 to look after every seed"
        ) from None
