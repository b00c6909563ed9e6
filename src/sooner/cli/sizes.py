"""`sooner race --sizes`: a race for every size and length, one table, and the gain fitted through all of them."""

from __future__ import annotations

import contextlib
import shlex
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from sooner.cli.answered import show_answer
from sooner.cli.numbers import numbers
from sooner.cli.placing import opened, place
from sooner.cli.progress import stoppable
from sooner.cli.race import looks_of
from sooner.error import SoonerError
from sooner.forecast.gain import gain
from sooner.race.referee import run
from sooner.race.sizes import finished, plans
from sooner.recipe.text import split
from sooner.report.forecast import gains
from sooner.watch import watching
from sooner.watch.pulse import Pulse
from sooner.workloads import find


def run_sizes(
    workload: str,
    recipes: str,
    *,
    sizes: str,
    horizons: str | None,
    steps: int | None,
    seeds: int | None,
    looks: str | None,
    until: int | None,
    as_json: bool,
    out: Path | None,
    jobs: int | None,
    log: str | None = None,
    **options: Any,
) -> None:
    """Run the races that the command line describes, or what is left of them, and show what came of all.

    Raises:
        SoonerError: anything the user can mend.
    """
    console = Console(stderr=True, highlight=False)
    if horizons is not None and steps is not None:
        raise SoonerError(f"--horizons {horizons} and --steps {steps} say the same thing twice; give one of them")
    options = place(jobs, **options)
    pool = options.pop("pool")
    with contextlib.redirect_stdout(sys.stderr):  # what a task prints is not our result
        family = plans(
            find(workload),
            split(recipes),
            sizes=numbers("--sizes", sizes, "1,2,4,8"),
            horizons=_whole(horizons) if horizons is not None else [] if steps is None else [steps],
            looks=looks_of(seeds, looks, until),
            until=until,
            command=shlex.join(["sooner", *sys.argv[1:]]),
            out=out,
            **options,
        )
    folder = family[0].folder().parent
    console.print(f"{family[0].task.name}: {len(family)} races in {folder}", markup=False, soft_wrap=True)
    for note in dict.fromkeys(note for plan in family for note in plan.warnings()):
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    with opened(pool, *family) as workers:
        for number, plan in enumerate(family, start=1):
            console.print(
                f"race {number} of {len(family)}: size {plan.task.size:g}, {plan.checked['parameters']:,} parameters, "
                f"{plan.budget} steps, {plan.regime}",
                markup=False,
                soft_wrap=True,
            )
            with stoppable(console, plan.jobs, lambda: f"finished cells are kept in {folder}") as progress:
                try:
                    run(plan, [progress, Pulse(plan.folder()), watching(log)], workers)
                except SoonerError as error:
                    raise SoonerError(f"at size {plan.task.size:g} and {plan.budget} steps: {error}") from error
    show_sizes(folder, as_json=as_json)


def show_sizes(folder: Path, *, as_json: bool) -> Path:
    """Print the table and the gain (or the JSON) of the finished races of a folder, and write the report there.

    Raises:
        SoonerError: no race there is finished, or the report can't be written.
    """
    races = finished(folder)
    if not races:
        raise SoonerError(f"no race in {folder} is finished; run the command again that started them")
    told: list[str] = []
    made = []
    baseline = next(row["recipe"] for row in races[0][1]["contenders"] if row["baseline"])
    for row in races[0][1]["contenders"]:
        if row["baseline"]:
            continue
        try:
            made += gain([folder], baseline=baseline, contender=row["recipe"])
        except SoonerError as error:  # the table of the races stands without it
            told.append(f"no gain could be fitted for {row['recipe']}: {error}")
    answer = gains.of_sizes(races, made, told)
    return show_answer(answer, folder, as_json=as_json)


def _whole(text: str) -> list[int]:
    found = numbers("--horizons", text, "500,1000,2000")
    if any(one != int(one) for one in found):
        raise SoonerError(f"--horizons {text!r} are steps, in whole numbers; write it like 500,1000,2000")
    return [int(one) for one in found]
