"""The commands that train, and show what came of it: options and help; what they do is in a file for each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from sooner.cli.numbers import Whole
from sooner.error import SoonerError

DEFAULT_WORKLOAD = "charlm"
DEFAULT_RECIPES = "adamw; sgd; muon"


def race(
    workload: str | None = None,
    /,
    *,
    recipes: str | None = None,
    command: Annotated[list[str] | None, Parameter(negative=())] = None,
    metric: str | None = None,
    maximize: Annotated[bool, Parameter(negative=())] = False,
    read: str | None = None,
    seeds: Whole | None = None,
    looks: str | None = None,
    until: Whole | None = None,
    power: float | None = None,
    effect: float | None = None,
    tune: Whole = 5,
    tuner: str = "halton",
    steps: Whole | None = None,
    sizes: str | None = None,
    horizons: str | None = None,
    regime: str = "auto",
    jobs: Whole | None = None,
    engine: str = "processes",
    address: str | None = None,
    cpus_per_run: Whole | None = None,
    device: str = "auto",
    gpus: str | None = None,
    gpus_per_run: Whole = 1,
    amp: str | None = None,
    silence: float | None = None,
    series: Whole = 0,
    workers: Whole = 1,
    world: Whole = 1,
    arms: bool = True,
    ablate: Annotated[bool, Parameter(negative=())] = False,
    cost: bool = True,
    log: str | None = None,
    out: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Race training recipes against a tuned baseline and write a report.

    The same command, run again, goes on where a stopped race left off and repeats the same numbers whatever --jobs is.

    Parameters
    ----------
    workload
        A bundled workload (see `sooner workloads`) or a Python file that defines model, batches, loss and steps.
    recipes
        Contenders separated by semicolons, the baseline first, e.g. "adamw; muon + cosine; torch.optim.NAdam(lr=1e-3)".
        A value given is fixed; lr=log(1e-4, 1e-2) tunes it in that range. Default "adamw; sgd; muon".
    command
        Race programs instead of a workload: "NAME: COMMAND", once for each contender, the baseline first, such as
        "adamw: python train.py --lr {lr:log(1e-4,1e-2)} --seed {seed} --steps {steps}". The race fills in {seed},
        {steps}, {out} (a folder of the run's own) and {device}, and tunes what has a range ({lr=3e-4:log(1e-4,1e-2)}
        tries 3e-4 first). With one command and --recipes, {recipe} is each of them.
    metric
        With --command, the number to compare, as the programs print it beside a step, such as val_loss.
    maximize
        With --command, larger values of the metric are better.
    read
        With --command, read the metric from files that a run writes below {out}, such as "*.csv" or "**/metrics.jsonl",
        instead of from what it prints.
    seeds
        Racing seeds per contender, 6 or more. Default 8.
    looks
        Numbers of seeds after which to judge, declared in advance, e.g. 8,16,32: contenders that are decided early
        need no more. Instead of --seeds.
    until
        Judge after every seed, and end as soon as all are decided, at the latest after so many seeds, e.g. 64. Tests
        and intervals hold at all these looks at once, so they are wider. Instead of --seeds.
    power
        Do not race: say how many seeds and steps effects need to be found with this chance, e.g. 0.9, and what they
        cost; from finished races of the same baseline, task and budget, else from a short pilot of the baseline.
    effect
        With --power, the ratio of steps to the target that you want to see, e.g. 0.85.
    tune
        Tuning trials per contender besides its default; everybody gets the same number.
    tuner
        Who proposes their settings: halton, the same quasi-random points for everybody, or optuna (optuna:tpe,
        optuna:gp), which after half of them learns from what a contender's own trials gave, one after another.
    steps
        Training steps of one run. Default: the workload's own budget.
    sizes
        Race at several sizes of the model, such as 1,2,4,8, each tuned anew, and say whether the gain survives at
        larger ones. The workload's model has to take a size.
    horizons
        With --sizes, race each at several budgets, such as 500,1000,2000. Instead of --steps.
    regime
        anytime: the first crossing of the target counts (constant learning rates). budgeted: every length is a run of
        its own (schedules that decay to the end). auto chooses budgeted if any recipe plans for a fixed end.
    jobs
        Worker processes of one thread each. Default: one for every core, or one for every place on a GPU; with
        --engine ray as many as the cluster has room for.
    engine
        What runs the runs: processes on this machine, or ray for a Ray cluster. Results are the same.
    address
        With --engine ray, the cluster: HOST:PORT or auto. Default: RAY_ADDRESS, else a cluster on this machine alone.
    cpus_per_run
        With --engine ray, the CPUs that a run takes of a node. Default: one, or one for each process of --world.
    device
        auto, cpu, cuda or mps: where runs train. auto is a GPU where torch finds one.
    gpus
        Devices for runs, such as 0,1,2,3: each run sees one of them. Default: all that are visible.
    gpus_per_run
        How many of these each run sees; with --engine ray how many it takes of a node.
    amp
        bf16 trains a workload in mixed precision (torch.autocast).
    silence
        Seconds without a word after which a run is given up. Default: 1800 for a command, which has to print or write;
        for a workload 120 idle, or 1800 at work, since importing and compiling are no silence.
    series
        Another number repeats the race on other seeds.
    workers
        Train every run in a simulated cluster of so many workers, each with its own batches; counts bytes, exactly.
    world
        Train every run with so many real processes over the loopback interface. Default jobs: cores / world.
    arms
        Where recipes of several workers are compared, also race what any comparison needs: dense averaging (as the
        baseline), half precision, local SGD with the same windows, outer momentum on equal workers, no communication.
    ablate
        Also race every stack of parts with one part left out at a time.
    cost
        Measure per-step time and memory after the race.
    log
        Also write everything to trackers, such as trackio or jsonl:race.jsonl,tensorboard:runs (jsonl, tensorboard,
        trackio, wandb or mlflow).
    out
        The race's folder. Default: races/WORKLOAD-HASH in this directory.
    json
        Print the result as JSON on standard output instead of the table.
    """
    options: dict[str, Any] = {
        "seeds": seeds,
        "looks": looks,
        "until": until,
        "as_json": json,
        "tune": tune,
        "tuner": tuner,
        "steps": steps,
        "regime": regime,
        "jobs": jobs,
        "series": series,
        "measure_cost": cost,
        "log": log,
        "out": out,
        "silence": silence,
        "device": device,
        "gpus": gpus,
        "gpus_per_run": gpus_per_run,
        "engine": engine,
        "address": address,
        "cpus_per_run": cpus_per_run,
    }
    if command:
        own: dict[str, Any] = {"sizes": sizes, "horizons": horizons, "amp": amp}
        own.update(
            workers=workers if workers != 1 else None, world=world if world != 1 else None, ablate=ablate or None
        )
        for name, value in {"a workload": workload, **{f"--{n}": v for n, v in own.items()}}.items():
            if value is not None:
                raise SoonerError(f"{name} goes with a workload whose insides are known, and not with --command")
        from sooner.cli.commands import run_commands

        options.update(power=power, effect=effect)
        run_commands(command, recipes, metric=metric, maximize=maximize, files=read, **options)
        return
    for name, value in {"--metric": metric, "--maximize": maximize or None, "--read": read}.items():
        if value is not None:
            raise SoonerError(f"{name} goes with --command; a workload says itself what its metric is")
    options.update(workers=workers, world=world, arms=arms, ablate=ablate, amp=amp)
    workload = DEFAULT_WORKLOAD if workload is None else workload
    recipes = DEFAULT_RECIPES if recipes is None else recipes
    if sizes is not None:
        if power is not None or effect is not None:
            raise SoonerError("--power and --effect ask about one race; ask about each of --sizes by itself")
        from sooner.cli.sizes import run_sizes

        run_sizes(workload, recipes, sizes=sizes, horizons=horizons, **options)
    elif horizons is not None:
        raise SoonerError(f"--horizons {horizons} goes with --sizes, such as --sizes 1,2,4; one race has --steps")
    else:
        from sooner.cli.race import run_race

        run_race(workload, recipes, power=power, effect=effect, **options)


def train(
    workload: str = "charlm",
    /,
    *,
    parts: str = "adamw",
    seed: Whole = 0,
    steps: Whole | None = None,
    accumulate: Whole = 1,
    clip_norm: float | None = None,
    checkpoint: Path | None = None,
    save_every: Whole | None = None,
    log: str | None = None,
    log_every: Whole = 10,
    timeout: float = 600.0,
) -> None:
    """Train once with the reference loop; under torchrun, together with the other processes.

    torchrun --nproc-per-node 2 -m sooner train my_task.py --parts "sgd + dgc"

    Every process draws batches of its own. When one is lost, the others say which, and exit with code 2; the same
    command goes on from the last complete checkpoint.

    Parameters
    ----------
    workload
        A bundled workload (see `sooner workloads`) or a Python file that defines model, batches, loss and steps.
    parts
        A recipe, such as "muon + cosine". Without an optimizer in it, adamw is added.
    seed
        Decides initial weights, data order and the method's own noise.
    steps
        Optimizer steps. Default: the workload's own budget.
    accumulate
        Micro-batches per step.
    clip_norm
        Scale gradients down to this norm where they exceed it.
    checkpoint
        File to go on from and to write to; a folder for several processes.
    save_every
        Steps between checkpoints. Default: only at the end.
    log
        Write loss, learning rate, gradient norm and evaluations to trackers, such as trackio or jsonl:run.jsonl
        (jsonl, tensorboard, trackio, wandb or mlflow).
    log_every
        Steps from one that is logged to the next.
    timeout
        Seconds to wait for the other processes in one exchange.
    """
    # when the process that keeps the rendezvous is lost, torch prints stack traces that say less than we do; whatever
    # it calls an error there it also raises
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    from sooner.cli.train import run_training

    run_training(
        workload,
        parts,
        seed=seed,
        steps=steps,
        accumulate=accumulate,
        clip_norm=clip_norm,
        checkpoint=checkpoint,
        save_every=save_every,
        watch=log,
        log_every=log_every,
        timeout=timeout,
    )


def show(
    folder: Path,
    /,
    *,
    open: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Show a race or a claim again: print its table and write its report anew, from the journal alone.

    Parameters
    ----------
    folder
        The folder of a race or of a claim, or a file of evidence.
    open
        Open the report in the browser.
    json
        Print the result as JSON instead of the table.
    """
    from sooner.cli.show import show_race

    show_race(folder, open_browser=open, as_json=json)
