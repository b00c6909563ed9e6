"""The `sooner forecast` commands: parse, call, print. numpy and scipy are imported by the commands, not by help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from sooner.cli.forecast.options import Choice, Reading

forecast = App(
    name="forecast",
    help="Predict the loss you have not paid for, from small or unfinished runs, with bands and a check of them.",
)

Places = Annotated[list[str], Parameter(negative=())]


@forecast.command
def laws() -> None:
    """List the laws, with formula, columns and source."""
    from sooner.cli.forecast.run import list_laws

    list_laws()


@forecast.command
def fit(*files: Path, given: Choice = Choice()) -> None:
    """Fit a law and print its parameters with intervals, what leaving out shows, and what to doubt.

    Parameters
    ----------
    files
        Tables, logs or folders: csv, tsv, json, jsonl, parquet, text logs, race, TensorBoard and MLflow folders.
    """
    from sooner.cli.forecast.run import run_fit

    run_fit(list(files), given)


@forecast.command
def predict(*files: Path, at: Places, given: Choice = Choice()) -> None:
    """Fit a law and predict its target somewhere else.

    Parameters
    ----------
    files
        As for `sooner forecast fit`.
    at
        Where: parameters=7e9,tokens=1.4e11. May be repeated.
    """
    from sooner.cli.forecast.run import run_predict

    run_predict(list(files), at, given)


@forecast.command
def curve(
    *files: Path,
    schedule: str | None = None,
    total: float | None = None,
    target: float | None = None,
    run: str | None = None,
    given: Choice = Choice(),
) -> None:
    """Forecast the rest of a run, or the curve of one under another learning-rate schedule.

    Parameters
    ----------
    files
        Curves: steps, losses and, where they were logged, learning rates.
    schedule
        The schedule of the run to forecast: wsd:peak=3e-4,warmup=2000,total=24000,decay=0.2. Left out: the last run
        goes on.
    total
        Last step to forecast. Default: the schedule's, or twice the last run's.
    target
        A loss: says when it is reached.
    run
        The run that goes on, of several. Default: the last.
    """
    from sooner.cli.forecast.run import run_curve

    run_curve(list(files), given, schedule=schedule, total=total, target=target, run=run)


@forecast.command
def when(
    *files: Path,
    target: float,
    schedule: str | None = None,
    total: float | None = None,
    worth: str | None = None,
    given: Choice = Choice(),
) -> None:
    """Say when a running job reaches a loss, how surely, and whether it is worth going on.

    Parameters
    ----------
    files
        As for `sooner forecast curve`; the last run of the last file is the one that runs.
    target
        The loss to reach.
    schedule
        The schedule that the run is under. Left out: its learning rate stays as it is.
    total
        Step at which the run ends. Default: the schedule's, or twice the steps so far.
    worth
        What reaching the target is worth: steps of this run, such as 20000, or its time, such as 12h (s, m, h, d).
    """
    from sooner.cli.forecast.run import run_when

    run_when(list(files), given, target=target, schedule=schedule, total=total, worth=worth)


@forecast.command
def check(*files: Path, leave: str = "auto", given: Choice = Choice()) -> None:
    """Leave out the largest scale, a curve or the end of one, predict it, and print error and coverage.

    Parameters
    ----------
    files
        As for `sooner forecast fit`.
    leave
        largest, curve or end; auto follows the law.
    """
    from sooner.cli.forecast.run import run_check

    run_check(list(files), given, leave=leave)


@forecast.command
def schedule(
    *files: Path,
    total: float | None = None,
    peak: float | None = None,
    warmup: float = 0.0,
    given: Choice = Choice(),
) -> None:
    """Find the learning-rate schedule with the lowest final loss under a law fitted to the curves.

    Parameters
    ----------
    files
        Curves: steps, losses and learning rates.
    total
        Steps of the run to plan. Default: those of the longest curve.
    peak
        Its largest learning rate. Default: the largest fitted.
    warmup
        Its steps of linear rise.
    """
    from sooner.cli.forecast.decide import run_schedule

    run_schedule(list(files), given, total=total, peak=peak, warmup=warmup)


@forecast.command
def allocate(
    *files: Path,
    compute: Annotated[list[float], Parameter(negative=())],
    inference_tokens: float = 0.0,
    given: Choice = Choice(),
) -> None:
    """Split a compute budget into parameters and tokens, with the learning rate and batch size for them.

    Parameters
    ----------
    files
        Runs with parameters, tokens (or FLOP) and final losses; also lr and batch to fit the rules for those.
    compute
        The budget in training FLOP, such as 1e21. May be repeated.
    inference_tokens
        Tokens to be served later, 2 FLOP per parameter each, paid from the same budget.
    """
    from sooner.cli.forecast.decide import run_allocate

    run_allocate(list(files), given, compute=compute, inference_tokens=inference_tokens)


@forecast.command
def task(*files: Path, at: Places, given: Reading = Reading()) -> None:
    """Predict a task's accuracy in two steps: size and tokens to task loss, task loss to accuracy.

    Parameters
    ----------
    files
        Runs with parameters, tokens, the loss on the task, and its accuracy or error.
    at
        Where: parameters=7e9,tokens=1.4e11. May be repeated.
    """
    from sooner.cli.forecast.decide import run_task

    run_task(list(files), at, given)


@forecast.command
def compare(
    first: Path,
    second: Path,
    *,
    over: str | None = None,
    to: float | None = None,
    given: Reading = Reading(),
) -> None:
    """Compare two training procedures along a scale: which wins where, how surely, and where they cross.

    Parameters
    ----------
    first
        Runs of the first procedure.
    second
        Runs of the second.
    over
        The column of the scale. Default: compute, tokens, parameters or step, the first that both have.
    to
        Largest scale to look at. Default: ten times the largest measured.
    """
    from sooner.cli.forecast.decide import run_compare

    run_compare(first, second, given, over=over, to=to)


@forecast.command
def merge(
    *projects: Path,
    say: Annotated[list[str], Parameter(negative=())] = [],  # noqa: B006 - cyclopts copies it
    table: Path | None = None,
    given: Reading = Reading(),
) -> None:
    """Bring the logs and tables of several projects into the same units, on one page and in one table.

    Parameters
    ----------
    projects
        A file or folder for each project, named by it without the ending. --column PROJECT:NAME=HEADING is for one.
    say
        What its files leave out, as PROJECT:FACT=VALUE. May be repeated. Facts: loss (nats, bits, perplexity, nats per
        byte, bits per byte), bytes_per_token, tokens_per_sample, batch (tokens per step), parameters.
    table
        Write all rows to this csv file, which the other commands read.
    """
    from sooner.cli.forecast.merging import run_merge

    run_merge(list(projects), say, given, table=table)


@forecast.command
def plan(
    *files: Path,
    at: str,
    goal: float = 0.5,
    budget: float | None = None,
    given: Choice = Choice(),
) -> None:
    """Say which runs to buy next to narrow the band of a forecast, and what they cost.

    Parameters
    ----------
    files
        As for `sooner forecast fit`.
    at
        Where the forecast matters: parameters=7e9,tokens=1.4e11.
    goal
        The share of today's band to aim at.
    budget
        The most to spend on all runs, in FLOP (in units of x for a law in one quantity).
    """
    from sooner.cli.forecast.decide import run_plan

    run_plan(list(files), at, given, goal=goal, budget=budget)


@forecast.command
def gain(
    *files: Path,
    baseline: str | None = None,
    contender: str | None = None,
    size_times: float = 10.0,
    length_times: float = 1.0,
    given: Reading = Reading(),
) -> None:
    """Say whether a contender's gain over a baseline survives at a larger size or length, or which races would tell.

    Parameters
    ----------
    files
        Folders of `sooner race --sizes`, or tables with arm, size, steps, loss and seed.
    baseline
        The arm to beat. Default: the first.
    contender
        Another arm. Default: each of the others.
    size_times
        The size asked for, over the largest that ran.
    length_times
        The steps asked for, over the longest that ran.
    """
    from sooner.cli.forecast.decide import run_gain

    run_gain(
        list(files), given, baseline=baseline, contender=contender, size_times=size_times, length_times=length_times
    )


@forecast.command
def gain_of_decay(
    *files: Path,
    at: Annotated[list[str], Parameter(negative=())] = [],  # noqa: B006 - cyclopts copies it
    lr: str | None = None,
    given: Reading = Reading(),
) -> None:
    """Say what a cool-down of the learning rate takes off the loss of a run, from runs that had one.

    Parameters
    ----------
    files
        Curves with their learning rates: those with a cool-down at their end say what it takes off, and for those
        without one the loss after it is forecast. Or a table of cool-downs, with --column before=HEADING.
    at
        A loss before its cool-down, and the size: loss=2.62,parameters=7e9. May be repeated.
    lr
        The learning rates, where the files don't have them: wsd:peak=3e-4,warmup=2000,total=24000,decay=0.2.
    """
    from sooner.cli.forecast.decide import run_gain_of_decay

    run_gain_of_decay(list(files), at, given, lr=lr)
