"""`sooner find`: options and help, the stages of a search, its confirmation, and what came of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from sooner.cli.numbers import Whole


def find(
    workload: str = "charlm",
    /,
    *,
    budget: str = "1h",
    base: str = "adamw",
    against: str | None = None,
    among: str | None = None,
    steps: Whole | None = None,
    jobs: Whole | None = None,
    device: str = "auto",
    gpus: str | None = None,
    gpus_per_run: Whole = 1,
    engine: str = "processes",
    address: str | None = None,
    cpus_per_run: Whole | None = None,
    silence: float | None = None,
    series: Whole = 0,
    probe: bool = True,
    out: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Search for the recipe that trains a task soonest, within a budget of time, and prove it on fresh seeds.

    sooner find my_task.py --budget 2h

    First a look at the task, which orders what is tried; then one change of your recipe at a time, then all
    combinations of the best ones by design, then the last few on fresh seeds; what comes out races against your recipe
    on seeds that chose nothing. Recipes are tuned alike and compared by the steps of whole runs to one target, on equal
    seeds. The same command goes on where it stopped.

    Parameters
    ----------
    workload
        A bundled workload (see `sooner workloads`) or a Python file that defines model, batches, loss and steps.
    budget
        How long it may take, the confirmation included, such as 2h, 90min or 1h30m. It decides how much is tried.
    base
        The recipe that you use now, with which the search begins.
    against
        What has to be beaten in the confirmation. Default: --base, with a schedule where that alone surely helps it.
    among
        What may be added: rules, options of rules and parts, with commas between. Default: adamw, muon, lion,
        adabelief, sgd, cautious, clip_norm, cosine, wsd, ema.
    steps
        Training steps of one run. Default: the workload's own budget.
    jobs
        Worker processes of one thread each. Default: one for every core.
    device
        auto, cpu, cuda or mps: where runs train.
    gpus
        Devices for runs, such as 0,1,2,3: each run sees one of them.
    gpus_per_run
        How many of these each run sees.
    engine
        What runs the runs: processes on this machine, or ray for a Ray cluster.
    address
        With --engine ray, the cluster: HOST:PORT or auto.
    cpus_per_run
        With --engine ray, the CPUs that a run takes of a node.
    silence
        Seconds without a word after which a run is given up.
    series
        Another number is the same search on other seeds.
    probe
        Look at the task first, for seconds and on the processor: noise, curvature, matrices, rare rows, tails, room for
        the rate. What it shows orders what is tried, so that a small budget leaves out the rest.
    out
        Folder of its stages. Default: races/find-WORKLOAD-HASH in this directory.
    json
        Print the result as JSON on standard output instead of the tables.
    """
    from rich.console import Console

    from sooner.cli.answered import show_answer
    from sooner.cli.placing import opened, place
    from sooner.cli.progress import stoppable
    from sooner.race.plan import Plan
    from sooner.race.referee import run
    from sooner.recipe import Recipe
    from sooner.report.search import answer, code, proven
    from sooner.search import AMONG, OnTask, Search, choices, ordered, seconds_of
    from sooner.search import probe as look
    from sooner.watch.pulse import Pulse
    from sooner.workloads import find as workload_named

    seconds, named = seconds_of(budget), choices(AMONG if among is None else among)
    options: dict[str, Any] = place(
        jobs,
        device=device,
        gpus=gpus,
        gpus_per_run=gpus_per_run,
        silence=silence,
        workers=1,
        world=1,
        engine=engine,
        address=address,
        cpus_per_run=cpus_per_run,
        command=shlex.join(["sooner", *sys.argv[1:]]),
    )
    rival = None if against is None else Recipe(against)
    pool, placed = options.pop("pool"), options.pop("jobs")
    console = Console(stderr=True, highlight=False)
    with contextlib.redirect_stdout(sys.stderr):  # what a task prints is not our result
        task = workload_named(workload)
        findings = look(task, Recipe(base)) if probe else []
    named = [choice for choice, _ in ordered(named, findings)]
    for one in findings:
        console.print(f"{one.name}: {one.sentence}", markup=False, soft_wrap=True)
    asked = repr((task.spec, str(Recipe(base)), str(rival), [one.name for one in named], steps, seconds, series))
    unique = hashlib.sha256(asked.encode()).hexdigest()[:8]
    folder = Path("races") / f"find-{task.name}-{unique}" if out is None else out
    with opened(pool) as workers, contextlib.ExitStack() as shown:

        def watch(plan: Plan) -> Any:
            shown.pop_all().close()  # the bar of the stage before
            kept = f"finished cells are kept in {folder}"
            return shown.enter_context(stoppable(console, plan.jobs, lambda: kept))

        search = Search(
            OnTask(task, steps, options),
            Recipe(base),
            named,
            seconds,
            folder,
            jobs=(placed or os.cpu_count() or 1) if workers is None else workers.jobs,
            against=rival,
            series=series,
            findings=findings,
            told=lambda text: console.print(text, markup=False, soft_wrap=True),
            watch=watch,
        )
        found = search.run(workers)
        confirmed = None
        if str(found.recipe) not in (str(search.base), str(found.rival)):
            console.print(f"confirming on fresh seeds: {found.recipe} against {found.rival}", markup=False)
            plan = search.confirming(found)
            confirmed = run(plan, [watch(plan), Pulse(plan.folder())], workers)
    more = code(search, found, confirmed) if proven(confirmed) else ""
    show_answer(answer(search, found, confirmed), folder, as_json=json, more=more)
