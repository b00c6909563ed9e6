"""`sooner race --command`: race programs as they are, whatever they are written in."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from sooner.cli.placing import opened, seated
from sooner.cli.power import check_power, show_power
from sooner.cli.progress import RaceProgress
from sooner.cli.race import looks_of, run_plan
from sooner.command.plan import SILENCE, CommandPlan, program_of, refuse_unseeded
from sooner.command.template import Command, read
from sooner.command.trying import Trying, try_out
from sooner.error import SoonerError
from sooner.race.places import device_of
from sooner.recipe import Recipe
from sooner.recipe.text import split
from sooner.watch import watching


def run_commands(
    commands: Sequence[str],
    recipes: str | None,
    *,
    metric: str | None,
    maximize: bool,
    files: str | None,
    silence: float | None,
    device: str,
    gpus: str | None,
    gpus_per_run: int,
    seeds: int | None,
    looks: str | None,
    until: int | None,
    steps: int | None,
    jobs: int | None,
    power: float | None,
    effect: float | None,
    as_json: bool,
    out: Path | None,
    log: str | None = None,
    **options: Any,
) -> None:
    """Try the commands out, race them and show what came of it; with `power`, say what a race would need instead.

    Raises:
        SoonerError: anything the user can mend.
    """
    if metric is None:
        raise SoonerError("commands race by a number that they print; name it, such as --metric val_loss")
    check_power(power, effect)
    sinks = watching(log)  # a tracker that isn't installed is told of before anything is tried
    console = Console(stderr=True, highlight=False)
    silence = SILENCE if silence is None else silence
    if silence <= 0:
        raise SoonerError(f"--silence {silence:g} must be above 0 seconds")
    device = "cuda" if gpus is not None and device == "auto" else device_of(device)
    placed = seated(jobs, gpus=gpus, gpus_per_run=gpus_per_run, device=device, silence=None, **options)
    pool, slots, jobs = placed.pop("pool"), placed["slots"], placed["jobs"]
    del placed["device"], placed["silence"]  # the program's own
    contenders = contenders_of(commands, recipes)
    made = {"higher_is_better": maximize, "log": files or "", "silence": silence, "device": device}
    program = program_of(contenders, metric, **made)
    refuse_unseeded(contenders, program)
    trying = Trying(contenders, program, steps=steps, regime=options["regime"], series=options["series"], out=out)
    with opened(pool) as workers:
        placed["jobs"] = jobs if workers is None else workers.jobs
        with RaceProgress(console, placed["jobs"]) as progress:
            tried = try_out(
                trying,
                jobs=jobs,
                slots=slots,
                told=lambda cells: progress.phase("trying the commands out", cells, 0.0),
                progress=progress.progress,
                pool=workers,
            )
        plan = CommandPlan(
            tried.program,
            tried.commands,
            looks=looks_of(seeds, looks, until),
            until=until,
            steps=tried.program.steps,
            out=out,
            command=shlex.join(["sooner", *sys.argv[1:]]),
            notes=tried.notes,
            **placed,
        )
        if power is not None:
            show_power(plan, power, effect, console, workers, as_json=as_json)
        else:
            run_plan(plan, console, sinks, workers, as_json=as_json)


def contenders_of(commands: Sequence[str], recipes: str | None) -> list[Command]:
    """Return the contenders: the commands, or one command with each of several recipes.

    Raises:
        SoonerError: a command can't be read, or both are given where only one makes sense.
    """
    found = [read(text) for text in commands]
    if recipes is None:
        for command in found:
            if "recipe" in command.asks:
                raise SoonerError(
                    f'command {command.name!r} asks for {{recipe}}; say which, with --recipes "adamw; muon"'
                )
        return found
    if len(found) > 1:
        raise SoonerError(
            f"--recipes go with one --command, which is run with each of them, and there are {len(found)}"
        )
    if found[0].space:
        raise SoonerError(
            f"command {found[0].name!r} tunes {', '.join(found[0].space)}, and recipes tune themselves; write the "
            "ranges into the recipes"
        )
    return [replace(found[0], recipe=Recipe(text)) for text in split(recipes)]
