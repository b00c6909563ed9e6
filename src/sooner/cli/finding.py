"""What searches of recipes and of commands share on the command line: run, confirm, show; and a search of commands."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from sooner.cli.answered import show_answer
from sooner.cli.placing import opened, place, seated
from sooner.cli.progress import RaceProgress, stoppable
from sooner.command.plan import SILENCE
from sooner.command.searching import OnCommands, ground_of
from sooner.command.template import Command
from sooner.error import SoonerError, nearest
from sooner.race.engines.processes import Processes
from sooner.race.places import device_of
from sooner.race.planned import Planned
from sooner.race.pool import Pool
from sooner.race.referee import run
from sooner.recipe import Recipe
from sooner.report import html
from sooner.report.search import answer
from sooner.search import Choice, OnTask, Search, ordered, probe
from sooner.watch.pulse import Pulse
from sooner.workloads import find


def folder_of(name: str, asked: Sequence[Any], out: Path | None) -> Path:
    """Return the folder of a search: as typed, or named after all that was asked."""
    unique = hashlib.sha256(repr(asked).encode()).hexdigest()[:8]
    return Path("races") / f"find-{name}-{unique}" if out is None else out


def run_search(
    make: Callable[..., Search], folder: Path, console: Console, pool: Pool | None, *, as_json: bool
) -> None:
    """Search, confirm what was found, and show it; Ctrl-C says what is kept.

    Args:
        make: returns the search, given `told` and `watch`.
        folder: of its stages.
        console: for what is told meanwhile.
        pool: workers, None for processes of each stage's own.
        as_json: print JSON and nothing else.
    """
    with contextlib.ExitStack() as shown:

        def watch(plan: Planned) -> Any:
            shown.pop_all().close()  # the bar of the stage before
            kept = f"finished cells are kept in {folder}"
            return shown.enter_context(stoppable(console, plan.jobs, lambda: kept))

        search = make(told=lambda text: console.print(text, markup=False, soft_wrap=True), watch=watch)
        found = search.run(pool)
        confirmed = None
        if str(found.recipe) not in (str(search.base), str(found.rival)):
            console.print(f"confirming on fresh seeds: {found.recipe} against {found.rival}", markup=False)
            plan = search.confirming(found)
            confirmed = run(plan, [watch(plan), Pulse(plan.folder())], pool)
            html.write(html.finite(confirmed), plan.folder() / "report.html")
    show_answer(answer(search, found, confirmed), folder, as_json=as_json)


def find_recipes(
    workload: str,
    base: str,
    changes: Sequence[Choice],
    *,
    probing: bool,
    budget: float,
    against: str | None,
    steps: int | None,
    jobs: int | None,
    series: int,
    out: Path | None,
    as_json: bool,
    **places: Any,
) -> None:
    """Look at a task, then search among recipes for it.

    Raises:
        SoonerError: anything the user can mend.
    """
    begun, rival = Recipe(base), None if against is None else Recipe(against)
    typed = shlex.join(["sooner", *sys.argv[1:]])
    options = place(jobs, **places, workers=1, world=1, command=typed)
    pool, placed = options.pop("pool"), options.pop("jobs")
    console = Console(stderr=True, highlight=False)
    with contextlib.redirect_stdout(sys.stderr):  # what a task prints is not our result
        task = find(workload)
        findings = probe(task, begun) if probing else []
    for one in findings:
        console.print(f"{one.name}: {one.sentence}", markup=False, soft_wrap=True)
    asked = (task.spec, str(begun), str(rival), [one.name for one in changes], steps, budget, series)
    folder = folder_of(task.name, asked, out)
    with opened(pool) as workers:

        def make(**shown: Any) -> Search:
            return Search(
                OnTask(task, steps, options),
                begun,
                [choice for choice, _ in ordered(changes, findings)],
                budget,
                folder,
                jobs=(placed or os.cpu_count() or 1) if workers is None else workers.jobs,
                against=rival,
                series=series,
                findings=findings,
                **shown,
            )

        run_search(make, folder, console, workers, as_json=as_json)


def find_commands(
    commands: Sequence[str],
    choices: str | None,
    recipes: tuple[str, Sequence[Choice]],
    *,
    metric: str | None,
    maximize: bool,
    files: str | None,
    budget: float,
    against: str | None,
    steps: int | None,
    jobs: int | None,
    device: str,
    gpus: str | None,
    gpus_per_run: int,
    engine: str,
    address: str | None,
    cpus_per_run: int | None,
    silence: float | None,
    series: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Search among commands: try them out, then as everywhere.

    Raises:
        SoonerError: anything the user can mend.
    """
    if metric is None:
        raise SoonerError("commands are compared by a number that they print; name it, such as --metric val_loss")
    silence = SILENCE if silence is None else silence
    if silence <= 0:
        raise SoonerError(f"--silence {silence:g} must be above 0 seconds")
    device = "cuda" if gpus is not None and device == "auto" else device_of(device)
    placed = seated(
        jobs,
        gpus=gpus,
        gpus_per_run=gpus_per_run,
        device=device,
        silence=None,
        engine=engine,
        address=address,
        cpus_per_run=cpus_per_run,
    )
    made = {"higher_is_better": maximize, "log": files or "", "silence": silence, "device": device, "steps": steps}
    ground, base, changes = ground_of(commands, choices, recipes, metric, **made)
    rival = None if against is None else _rival(against, ground, base, changes)
    asked = (commands, choices, recipes[0], [c.name for c in changes], against, metric, steps, budget, series)
    folder = folder_of(ground.program.name, asked, out)
    console = Console(stderr=True, highlight=False)
    with opened(placed["pool"]) as workers:
        count = placed["jobs"] if workers is None else workers.jobs
        with (
            contextlib.nullcontext(workers) if workers else Processes(count, slots=placed["slots"]) as hands,
            RaceProgress(console, count) as progress,
        ):
            told = lambda cells: progress.phase("trying the commands out", cells, 0.0)  # noqa: E731
            base, changes = ground.try_out(
                base, changes, folder / "tried", hands, told, progress.progress, series=series
            )

        def make(**shown: Any) -> Search:
            return Search(
                ground,
                base,
                changes,
                budget,
                folder,
                jobs=count,
                against=rival,
                series=series,
                options={"slots": placed["slots"], "command": shlex.join(["sooner", *sys.argv[1:]])},
                **shown,
            )

        run_search(make, folder, console, workers, as_json=as_json)


def _rival(against: str, ground: OnCommands, base: Command, changes: Sequence[Any]) -> Command:
    """Return the command that has to be beaten, by its recipe, its name, or its options such as ``wd=0.1``."""
    if base.recipe is not None:
        return replace(base, recipe=Recipe(against))
    if against == str(base):
        return base
    named = {change.name: change for change in changes}
    picked = [one.strip() for one in against.split(",")]
    for one in picked:
        if one not in named:
            known = ", ".join([str(base), *named])
            raise SoonerError(
                f"--against {against!r}: {one!r} is none of what is searched ({known}){nearest(one, named)}"
            )
    return ground.made(base, [named[one] for one in picked])
