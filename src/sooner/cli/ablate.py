"""`sooner ablate`: options and help, the races of all arms, and what came of them."""

from __future__ import annotations

import contextlib
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from sooner.cli.numbers import Whole, numbers

if TYPE_CHECKING:
    from rich.console import Console

    from sooner.ablation import Study
    from sooner.race.plan import Plan
    from sooner.task import Task


def ablate(
    stack: str,
    workload: str = "charlm",
    /,
    *,
    instead: str = "adamw",
    keep: str = "",
    together: tuple[str, ...] = (),
    pairs: bool | None = None,
    worth: str = "5%",
    sizes: str | None = None,
    seeds: Whole | None = None,
    tune: Whole = 5,
    tuner: str = "halton",
    steps: Whole | None = None,
    regime: str = "auto",
    jobs: Whole | None = None,
    engine: str = "processes",
    address: str | None = None,
    cpus_per_run: Whole | None = None,
    device: str = "auto",
    gpus: str | None = None,
    gpus_per_run: Whole = 1,
    silence: float | None = None,
    series: Whole = 0,
    confirm: bool = True,
    list: Annotated[bool, Parameter(negative=())] = False,
    out: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Find out which parts of a stack carry its gain, and which to throw away.

    sooner ablate "muon + cautious + ema + clip_norm + wsd" my_task.py

    All parts are varied at once by a two-level design, each stack of it is tuned anew, and what may go is confirmed by
    a race on fresh seeds. The same command goes on where it stopped.

    Parameters
    ----------
    stack
        Parts joined by +, as in a race. An option of the rule that is switched on, such as cautious, is a part too.
    workload
        A bundled workload (see `sooner workloads`) or a Python file that defines model, batches, loss and steps.
    instead
        The rule that stands in where the stack's own is left out.
    keep
        Parts that stay in all arms, joined by +.
    together
        Parts joined by + that go in and out as one, such as those that can't do without each other.
    pairs
        Tell pairs of parts apart: how much more or less they are than their sum. Default: up to five parts, in 16 arms.
    worth
        A part that is sure to save less than this may go.
    sizes
        At several sizes of the model, such as 1,2. The workload's model has to take a size.
    seeds
        Racing seeds per arm, 6 or more. Default 8.
    tune
        Tuning trials per arm besides its default.
    tuner
        Who proposes their settings, as in a race.
    steps
        Training steps of one run. Default: the workload's own budget.
    regime
        anytime, budgeted or auto, as in a race.
    jobs
        Worker processes of one thread each. Default: one for every core.
    engine
        What runs the runs: processes on this machine, or ray for a Ray cluster.
    address
        With --engine ray, the cluster: HOST:PORT or auto.
    cpus_per_run
        With --engine ray, the CPUs that a run takes of a node.
    device
        auto, cpu, cuda or mps: where runs train.
    gpus
        Devices for runs, such as 0,1,2,3: each run sees one of them.
    gpus_per_run
        How many of these each run sees.
    silence
        Seconds without a word after which a run is given up.
    series
        Another number repeats all on other seeds.
    confirm
        Race what is left against the whole stack on fresh seeds.
    list
        List the arms with what they leave out, and run nothing.
    out
        Folder of the races. Default: races/ablate-WORKLOAD-HASH in this directory.
    json
        Print the result as JSON on standard output instead of the tables.
    """
    from rich.console import Console

    from sooner.ablation import Study, design, read
    from sooner.cli.placing import place
    from sooner.error import SoonerError
    from sooner.judging.evidence import Worth
    from sooner.race.limits import DEFAULT_SEEDS
    from sooner.workloads import find

    least = Worth.read(worth)
    if not least.relative:
        raise SoonerError(f"--worth {worth} must be a share, such as 5%")
    whole = read(stack, plain=instead, keep=keep, together=together)
    study = Study(whole, design(len(whole.factors), pairs))
    if list:
        show_arms(study, Console(highlight=False))
        return
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
        tune=tune,
        tuner=tuner,
        steps=steps,
        regime=regime,
        series=series,
        looks=(DEFAULT_SEEDS if seeds is None else seeds,),
        command=shlex.join(["sooner", *sys.argv[1:]]),
    )
    pool = options.pop("pool")
    with contextlib.redirect_stdout(sys.stderr):  # what a task prints is not our result
        task = find(workload)
        tasks = [task] if sizes is None else [task.at(size) for size in numbers("--sizes", sizes, "1,2")]
        plans = [study.plan(one, **options) for one in tasks]
    if out is None:
        out = Path("races") / f"ablate-{plans[0].folder().name}"
    for plan in plans:
        plan.out = out / (f"size-{plan.task.size:g}" if len(plans) > 1 else "arms")
    if len({plan.out for plan in plans}) < len(plans):
        raise SoonerError(f"--sizes {sizes} names a size twice")
    _run(
        study,
        tasks[-1],
        plans,
        pool,
        {**options, "out": out / "confirmed"},
        worth=least.size,
        confirm=confirm,
        as_json=json,
    )


def _run(
    study: Study,
    largest: Task,
    plans: list[Plan],
    pool: Any,
    options: dict[str, Any],
    *,
    worth: float,
    confirm: bool,
    as_json: bool,
) -> None:
    from rich.console import Console

    from sooner.ablation import find
    from sooner.cli.answered import show_answer
    from sooner.cli.placing import opened
    from sooner.report.ablation import answer

    console = Console(stderr=True, highlight=False)
    folder: Path = options["out"].parent
    arms = len(study.design.levels)
    console.print(
        f"{largest.name}: {arms} stacks of {len(study.stack.factors)} parts, {len(plans[0].recipes)} contenders, "
        f"{plans[0].budget} steps, {plans[0].regime}; races in {folder}",
        markup=False,
        soft_wrap=True,
    )
    races = []
    confirmed = None
    with opened(pool, *plans) as workers:
        for plan in plans:
            if len(plans) > 1:
                console.print(f"size {plan.task.size:g}: {plan.checked['parameters']:,} parameters", markup=False)
            result = _race(plan, console, workers)
            races.append((plan.task.size, result, find(study, result, worth)))
        made = races[-1][2].effects
        if confirm and made is not None and len(made.kept) < len(study.stack.factors):
            last = study.confirming(largest, study.kept(made.kept), **options)
            console.print(f"confirming on fresh seeds: {last.recipes[1]} against the whole stack", markup=False)
            if workers is not None:
                last.jobs = workers.jobs
            confirmed = _race(last, console, workers)
    show_answer(answer(study, races, confirmed, worth), folder, as_json=as_json)


def _race(plan: Plan, console: Console, workers: Any) -> dict[str, Any]:
    from sooner.cli.progress import stoppable
    from sooner.race.referee import run
    from sooner.watch.pulse import Pulse

    with stoppable(console, plan.jobs, lambda: f"finished cells are kept in {plan.folder()}") as progress:
        return run(plan, [progress, Pulse(plan.folder())], workers)


def show_arms(study: Study, console: Console) -> None:
    """List the arms, the stack without any part last."""
    names = [factor.name for factor in study.stack.factors]
    told = "pairs are told apart" if study.design.pairs else "pairs are not told apart"
    console.print(f"{len(study.arms)} stacks; {told}", markup=False)
    rows = [
        (arm, [n for n, level in zip(names, levels, strict=True) if level < 0])
        for arm, levels in zip(study.arms, study.design.levels, strict=True)
    ]
    if str(study.stack.all_out) not in {str(arm) for arm, _ in rows}:
        rows.append((study.stack.all_out, names))
    for arm, out in rows:
        console.print(
            f"{arm}   without {', '.join(out)}" if out else f"{arm}   the whole stack", markup=False, soft_wrap=True
        )
