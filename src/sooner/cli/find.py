"""`sooner find`: options and help; what it does is in `sooner.cli.finding`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from sooner.cli.numbers import Whole
from sooner.error import SoonerError


def find(
    workload: str | None = None,
    /,
    *,
    command: Annotated[list[str] | None, Parameter(negative=())] = None,
    choices: str | None = None,
    metric: str | None = None,
    maximize: Annotated[bool, Parameter(negative=())] = False,
    read: str | None = None,
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
        Default: charlm.
    command
        In the place of a workload, a program, written as for `sooner race`: {seed} and {steps} are filled in,
        {lr:log(1e-4, 1e-2)} is tuned. With {recipe} in it, recipes are searched as for a workload. Given several times,
        each is a candidate, the first the one you use now.
    choices
        With one --command, its options and their values, the one you use now first, such as
        "optimizer=adamw,muon; wd=0,0.1" for {optimizer} and {wd} in it.
    metric
        With --command, the number to compare, as the programs print it beside a step, such as val_loss.
    maximize
        With --command, larger values of the metric are better.
    read
        With --command, read the metric from files that a run writes below {out}, such as "*.csv".
    budget
        How long it may take, the confirmation included, such as 2h, 90min or 1h30m. It decides how much is tried.
    base
        The recipe that you use now, with which the search begins.
    against
        What has to be beaten in the confirmation: a recipe, or the name of a command, or options such as wd=0.1.
        Default: what the search begins with, with a schedule where that alone surely helps it.
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
    if command is None:
        for name, given in (("--choices", choices), ("--metric", metric), ("--read", read), ("--maximize", maximize)):
            if given:
                raise SoonerError(f"{name} goes with --command; a workload says itself what its metric is")
    elif workload is not None:
        raise SoonerError(f"{workload} and --command are two things to train; give one of them")
    from sooner.cli.finding import find_commands, find_recipes
    from sooner.search import AMONG, seconds_of
    from sooner.search import choices as named

    changes = named(AMONG if among is None else among)
    shared: dict[str, Any] = {
        "budget": seconds_of(budget),
        "against": against,
        "steps": steps,
        "jobs": jobs,
        "device": device,
        "gpus": gpus,
        "gpus_per_run": gpus_per_run,
        "engine": engine,
        "address": address,
        "cpus_per_run": cpus_per_run,
        "silence": silence,
        "series": series,
        "out": out,
        "as_json": json,
    }
    if command is not None:
        find_commands(command, choices, (base, changes), metric=metric, maximize=maximize, files=read, **shared)
    else:
        find_recipes("charlm" if workload is None else workload, base, changes, probing=probe, **shared)
