"""The `sooner forecast` commands: parse, call, print. numpy and scipy are imported by the commands, not by help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from sooner.cli.numbers import Whole

forecast = App(
    name="forecast",
    help="Predict the loss you have not paid for, from small or unfinished runs, with bands and a check of them.",
)

_Columns = Annotated[list[str] | None, Parameter(name="--column", negative=())]
_Out = Annotated[Path | None, Parameter(name=("--out", "-o"))]
_Json = Annotated[bool, Parameter(negative=())]


@forecast.command
def laws() -> None:
    """List the laws, with formula, columns and source."""
    from sooner.cli.forecast_run import list_laws

    list_laws()


@forecast.command
def fit(
    *files: Path,
    law: str = "auto",
    over: str | None = None,
    column: _Columns = None,
    lr: str | None = None,
    draws: Whole = 200,
    level: float = 0.9,
    out: _Out = None,
    json: _Json = False,
) -> None:
    """Fit a law and print its parameters with intervals, what leaving out shows, and what to doubt.

    Parameters
    ----------
    files
        Tables or logs: csv, tsv, jsonl, parquet, race folders, TensorBoard folders, nanoGPT-style text logs.
    law
        A law of `sooner forecast laws`; auto chooses by what leaving out shows.
    over
        The column that a law in one quantity takes as x, such as tokens.
    column
        NAME=HEADING reads a column under that heading, such as --column loss=val_loss. May be repeated.
    lr
        The learning rates, where the files don't have them: cosine:peak=3e-4,warmup=2000,total=24000,end=3e-5.
    draws
        Refits for the bands.
    level
        Share of future runs that the bands are meant to cover.
    out
        Write the report with its plots to this HTML file.
    json
        Print the result as JSON.
    """
    from sooner.cli.forecast_run import run_fit

    run_fit(
        list(files),
        law=law,
        over=over,
        columns=column or [],
        lr=lr,
        draws=draws,
        level=level,
        out=out,
        as_json=json,
    )


@forecast.command
def predict(
    *files: Path,
    at: Annotated[list[str], Parameter(negative=())],
    law: str = "auto",
    over: str | None = None,
    column: _Columns = None,
    lr: str | None = None,
    draws: Whole = 200,
    level: float = 0.9,
    out: _Out = None,
    json: _Json = False,
) -> None:
    """Fit a law and predict its target somewhere else.

    Parameters
    ----------
    files
        As for `sooner forecast fit`.
    at
        Where: parameters=7e9,tokens=1.4e11. May be repeated.
    law
        A law of `sooner forecast laws`; auto chooses by what leaving out shows.
    over
        The column that a law in one quantity takes as x.
    column
        NAME=HEADING reads a column under that heading. May be repeated.
    lr
        The learning rates, where the files don't have them.
    draws
        Refits for the bands.
    level
        Share of future runs that the band is meant to cover.
    out
        Write the report with its plots to this HTML file.
    json
        Print the result as JSON.
    """
    from sooner.cli.forecast_run import run_predict

    run_predict(
        list(files),
        at,
        law=law,
        over=over,
        columns=column or [],
        lr=lr,
        draws=draws,
        level=level,
        out=out,
        as_json=json,
    )


@forecast.command
def curve(
    *files: Path,
    schedule: str | None = None,
    total: float | None = None,
    target: float | None = None,
    law: str = "auto",
    column: _Columns = None,
    lr: str | None = None,
    draws: Whole = 200,
    level: float = 0.9,
    out: _Out = None,
    json: _Json = False,
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
    law
        annealing, multi_power or power_floor; auto chooses by what leaving out shows.
    column
        NAME=HEADING reads a column under that heading. May be repeated.
    lr
        The learning rates of the files, where they were not logged: cosine:peak=3e-4,warmup=2000,total=24000.
    draws
        Refits for the bands.
    level
        Share of future runs that the band is meant to cover.
    out
        Write the report with its plots to this HTML file.
    json
        Print the result as JSON.
    """
    from sooner.cli.forecast_run import run_curve

    run_curve(
        list(files),
        schedule=schedule,
        total=total,
        target=target,
        law=law,
        columns=column or [],
        lr=lr,
        draws=draws,
        level=level,
        out=out,
        as_json=json,
    )


@forecast.command
def check(
    *files: Path,
    law: str = "auto",
    over: str | None = None,
    leave: str = "auto",
    column: _Columns = None,
    lr: str | None = None,
    draws: Whole = 200,
    level: float = 0.9,
    out: _Out = None,
    json: _Json = False,
) -> None:
    """Leave out the largest scale, a curve or the end of one, predict it, and print error and coverage.

    Parameters
    ----------
    files
        As for `sooner forecast fit`.
    law
        A law of `sooner forecast laws`; auto chooses by what leaving out shows.
    over
        The column that a law in one quantity takes as x.
    leave
        largest, curve or end; auto follows the law.
    column
        NAME=HEADING reads a column under that heading. May be repeated.
    lr
        The learning rates, where the files don't have them.
    draws
        Refits for the bands.
    level
        Share of rows that the bands are meant to cover.
    out
        Write the report with its plots to this HTML file.
    json
        Print the result as JSON.
    """
    from sooner.cli.forecast_run import run_check

    run_check(
        list(files),
        law=law,
        over=over,
        leave=leave,
        columns=column or [],
        lr=lr,
        draws=draws,
        level=level,
        out=out,
        as_json=json,
    )
