"""What the deciding `sooner forecast` commands do: schedule, allocate, task, compare, plan, gain, gain-of-decay."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sooner.cli.forecast.asked import checked_numbers, of_final_losses, pairs, places, positive, shared_scale
from sooner.cli.forecast.options import Choice, Reading
from sooner.cli.forecast.run import chosen, doubted, finish, measured, ready, working
from sooner.error import SoonerError
from sooner.forecast.decide.allocate import allocate
from sooner.forecast.decide.best_schedule import best_schedule
from sooner.forecast.decide.compare import compare
from sooner.forecast.decide.gain_of_decay import Waiting, gain_of_decay
from sooner.forecast.decide.isoflop import IsoFlop, isoflop
from sooner.forecast.decide.optimal_hyperparameters import StepLaw, fit_step_law, published
from sooner.forecast.decide.plan import plan
from sooner.forecast.early import without_early
from sooner.forecast.fit import fit
from sooner.forecast.gain import gain
from sooner.forecast.laws.loss_to_error import LossToError
from sooner.forecast.laws.task_ladder import TaskLadder
from sooner.forecast.read.arms import read_arms
from sooner.forecast.table import Table
from sooner.report.forecast import decays, decisions, gains


def run_schedule(files: list[Path], given: Choice, *, total: float | None, peak: float | None, warmup: float) -> None:
    """Find the best schedule and show it."""
    positive(total=total, peak=peak)
    with working() as told:
        rows, law, errors = ready(files, given, told)
        fitted = fit(law, rows, draws=given.draws)
        told("searching")
        steps = round(rows.require("step")["step"].max() if total is None else total)
        made = best_schedule(fitted, steps, peak=peak, warmup=warmup, level=given.level)
        answer = decisions.of_schedules(made, fitted, errors)
    finish(answer, given)


def run_allocate(files: list[Path], given: Choice, *, compute: list[float], inference_tokens: float) -> None:
    """Split budgets and show how."""
    with working() as told:
        rows, law, errors = chosen(files, given, told)
        fitted = doubted(fit(law, without_early(law, rows), draws=given.draws))
        made = [allocate(fitted, one, inference_tokens=inference_tokens, level=given.level) for one in compute]
        rules, notes = _rules(rows)
        answer = decisions.of_allocations(made, fitted, rules, notes, errors, _parabolas(rows))
    finish(answer, given)


def run_task(files: list[Path], at: list[str], given: Reading) -> None:
    """Predict a task's accuracy and show it."""
    checked_numbers(given)
    with working() as told:
        rows = measured(files, given)
        ladder = TaskLadder() if "accuracy" in rows or "error" not in rows else TaskLadder(second=LossToError())
        where = places(at, ladder.first.needs)
        _shares(rows, ladder.second.target)
        told("fitting")
        fitted = ladder.fit(rows, draws=given.draws)
        made = fitted.predict(where, given.level)
        answer = decisions.of_task(fitted, where, made, fitted.first.predict(where, given.level))
    finish(answer, given)


def run_compare(first: Path, second: Path, given: Reading, *, over: str | None, to: float | None) -> None:
    """Compare two procedures and show which wins where."""
    checked_numbers(given)
    positive(to=to)
    with working() as told:
        one, two = (measured([file], given).require("loss") for file in (first, second))
        over = over or shared_scale((one, two))
        one, two = one.require(over), two.require(over)
        told("fitting")
        made = compare(one, two, over=over, to=to, level=given.level, draws=given.draws)
        names = (first.stem, second.stem) if first.stem != second.stem else (str(first), str(second))
        answer = decisions.of_comparison(made, names, (one, two))
    finish(answer, given)


def run_plan(files: list[Path], at: str, given: Choice, *, goal: float, budget: float | None) -> None:
    """Choose the next runs and show them."""
    positive(budget=budget)
    with working() as told:
        rows, law, errors = ready(files, given, told)
        of_final_losses(law, "plan")
        fitted = doubted(fit(law, rows, draws=given.draws))
        most = np.inf if budget is None else budget
        made = plan(fitted, places([at], law.needs, law.name), goal=goal, budget=most, level=given.level)
        answer = decisions.of_plan(made, fitted, at, errors)
    finish(answer, given)


def run_gain(
    files: list[Path],
    given: Reading,
    *,
    baseline: str | None,
    contender: str | None,
    size_times: float,
    length_times: float,
) -> None:
    """Say whether gains survive and show why."""
    checked_numbers(given)
    positive(**{"size-times": size_times, "length-times": length_times})
    with working() as told:
        columns, where = pairs(given.column), pairs(given.where, "--where", "HEADING=TEXT", "kind=val")
        runs = read_arms(files, columns=columns, where=where)
        told("fitting")
        made = gain(
            runs,
            baseline=baseline,
            contender=contender,
            size_times=size_times,
            length_times=length_times,
            level=given.level,
            draws=given.draws,
        )
    finish(gains.of_gains(made), given)


def run_gain_of_decay(files: list[Path], at: list[str], given: Reading, *, lr: str | None) -> None:
    """Say what a cool-down takes off and show why."""
    checked_numbers(given)
    asked = places(at, ("loss",), "the gain of a decay", also=("parameters",)) if at else None
    waiting = []
    if asked is not None:
        sizes = asked["parameters"] if "parameters" in asked else np.full(len(asked), np.nan)
        waiting = [
            Waiting(*row) for row in zip(asked.run.tolist(), asked["loss"].tolist(), sizes.tolist(), strict=True)
        ]
    with working() as told:
        rows = measured(files, given, lr)
        told("comparing losses before and after")
        made = gain_of_decay(rows, waiting, level=given.level)
    finish(decays.of_gain_of_decay(made, rows.notes), given)


def _parabolas(rows: Table) -> IsoFlop | None:
    """Return what parabolas at equal compute say of the best size; None where the rows hold no such levels."""
    try:
        return isoflop(rows)
    except SoonerError:
        return None


def _shares(rows: Table, target: str) -> None:
    """Refuse accuracies and errors that are no shares.

    Raises:
        SoonerError: names the first.
    """
    bad = [one for one in rows[target].tolist() if not 0 <= one <= 1] if target in rows else []
    if bad:
        raise SoonerError(
            f"the {target} is {bad[0]:g} in a row; a task's {target} is from 0 to 1: divide percents by 100"
        )


def _rules(rows: Table) -> tuple[StepLaw, list[str]]:
    """Return the rules for learning rate and batch: fitted where the table has both, else the published ones."""
    if "lr" in rows and "batch" in rows:
        try:
            return fit_step_law(rows), ["learning rate and batch are by rules fitted to the files"]
        except SoonerError:
            pass
    return published(), ["learning rate and batch are by the published Step Law (Li et al., 2025, arXiv 2503.04715)"]
