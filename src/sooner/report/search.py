"""From what a search found to an answer: the recipe in one line, how surely it is sooner, and what was tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sooner.report.forecast.answer import Answer, Cell, Grid
from sooner.search import Choice, Finding, Measured, Outcome, Search

_STAGES = ("One change at a time", "Combinations", "The last few, on fresh seeds")


def answer(search: Search, found: Outcome, confirmed: dict[str, Any] | None) -> Answer:
    """Return the answer of `sooner find`.

    Args:
        search: what was asked.
        found: what it came to.
        confirmed: result of the race against the rival, None where nothing was better.
    """
    subject = search.ground.subject
    grids = [_shown(search)] if search.findings else []
    grids += [_grid(title, stage, search) for title, stage in zip(_STAGES, found.stages, strict=False)]
    return Answer(
        f"Which recipe trains {subject.name} soonest?",
        headline(search, found, confirmed),
        grids,
        [],
        [f"{name} was left out: {why}" for name, why in found.refused.items()],
        _notes(search, found, confirmed),
        {
            "task": subject.name,
            "base": str(search.base),
            "against": str(found.rival),
            "among": [change.name for change in search.among],
            "probe": [
                {"name": one.name, "value": one.value, "sentence": one.sentence, "speaks_for": spoken_for(one, search)}
                for one in search.findings
            ],
            "budget_seconds": search.budget,
            "target": _raw(found.target, search),
            "recipe": str(found.recipe),
            "proven": proven(confirmed),
            "code": code(search, found, confirmed),
            "spent": asdict(found.spent),
            "stages": [[_data(one, search) for one in stage] for stage in found.stages],
            "confirmation": None if confirmed is None else _row(confirmed),
        },
    )


def headline(search: Search, found: Outcome, confirmed: dict[str, Any] | None) -> str:
    """Return one sentence: what was found, and what the confirmation says of it."""
    if confirmed is None:
        return f"nothing that was tried is sooner than {found.recipe} on {search.ground.subject.name}"
    row = _row(confirmed)
    rival, final = str(found.rival), row["final"]
    told = {
        "faster": f"use {row['tuned_recipe']}",
        "slower": f"stay with {rival}: what looked best, {found.recipe}, is slower on fresh seeds",
    }.get(row["verdict"], f"{found.recipe} looked best, and fresh seeds can't tell it from {rival}")
    sentence = row["sentence"].removeprefix("open: ")
    subject = "it " if sentence.startswith(("reaches", "does not")) else ""
    also = f"; it {final['sentence']}" if final["sentence"] else ""
    return f"{told}: {subject}{sentence}{also}"


def proven(confirmed: dict[str, Any] | None) -> bool:
    """Return whether fresh seeds say that what was found is sooner."""
    return confirmed is not None and _row(confirmed)["verdict"] == "faster"


def code(search: Search, found: Outcome, confirmed: dict[str, Any] | None) -> str:
    """Return what to paste: what is proven to be sooner, tuned, or else what the search began with."""
    if confirmed is None or not proven(confirmed):
        return search.ground.pasted(search.base)
    return search.ground.pasted(found.recipe.with_settings(_settings(confirmed)))


def _settings(confirmed: dict[str, Any]) -> dict[str, Any]:
    row = next(r for r in confirmed["contenders"] if not r["baseline"])
    chosen: dict[str, Any] = row["tuning"]["best"]
    return chosen


def _row(confirmed: dict[str, Any]) -> dict[str, Any]:
    row = next(r for r in confirmed["contenders"] if not r["baseline"])
    return {
        key: row[key] for key in ("recipe", "tuned_recipe", "verdict", "sentence", "targets", "final", "time_ratio")
    }


def spoken_for(finding: Finding, search: Search) -> list[str]:
    """Return the names of the candidates for which a finding speaks."""
    return [change.name for change in search.among if isinstance(change, Choice) and finding.speaks_for(change)]


def _shown(search: Search) -> Grid:
    rows: list[list[Cell]] = []
    for one in search.findings:
        value = None if one.value is None else f"{one.value:.3g}"
        rows.append([one.name, value, one.sentence, ", ".join(spoken_for(one, search)) or None])
    return Grid(
        "What the task shows, in a probe of seconds; it orders what is tried and proves nothing",
        ("looked at", "number", "it says", "speaks for"),
        rows,
    )


def _grid(title: str, stage: Sequence[Measured], search: Search) -> Grid:
    base = next((one for one in stage if str(one.recipe) == str(search.base)), None)
    rows: list[list[Cell]] = []
    for one in sorted(stage, key=lambda one: one.typical):
        ends = [end for end in one.finals if end is not None]
        final = f"{_raw(sum(ends) / len(ends), search):.4g}" if len(ends) == len(one.finals) else "diverged"
        steps = f"{one.typical:.0f}" if one.hits else "never"
        against = None if base is None or one is base or not one.hits else f"{one.typical / base.typical:.2f}x"
        rows.append([str(one.tuned), steps, against, f"{one.hits} of {len(one.steps)}", final])
    metric = search.ground.subject.metric
    heads = ("recipe, tuned", "steps to the target", f"of {search.base}'s", "runs that reach it", f"final {metric}")
    return Grid(title, heads, rows)


def _raw(value: float, search: Search) -> float:
    """Return a value as the task gives it, from one that is lower-is-better."""
    return -value if search.ground.subject.higher_is_better else value


def _notes(search: Search, found: Outcome, confirmed: dict[str, Any] | None) -> list[str]:
    spent = found.spent
    metric = search.ground.subject.metric
    told = [
        f"a run of {search.base} takes {found.run_seconds:.3g} s; every recipe got {spent.tune} "
        f"tuning trials and half as many in a wider range, single changes {spent.screen} seeds, combinations "
        f"{spent.combine}, the last few {spent.choose}",
        f"all stages compare steps to one target, {metric} {_raw(found.target, search):.4g}, the middle target of "
        f"{search.base}, tuned, on equal seeds, each stage on its own; a run that misses it counts as one of twice "
        "the longest run. The confirmation judges the same quantity, with a target that its baseline sets anew; only "
        "it says what is sooner",
    ]
    if confirmed is not None:
        told.insert(0, "the confirmation has a report of its own, in the folder confirmed beside this page")
    if proven(confirmed):
        told.insert(0, f"to paste: {code(search, found, confirmed)}")
    if search.findings:
        told.append(f"in this order, by what the task shows: {', '.join(change.name for change in search.among)}")
    if found.factors:
        told.append(f"combined: {', '.join(found.factors)}")
    if str(found.rival) != str(search.base) and search.against is None:
        told.append(
            f"the rival in the confirmation is {found.rival}: a schedule alone surely helps {search.base}, so a gain "
            "that it brings alone does not count"
        )
    return told


def _data(one: Measured, search: Search) -> dict[str, Any]:
    finals = [None if value is None else _raw(value, search) for value in one.finals]
    tuned = str(one.tuned)
    return {"recipe": str(one.recipe), "tuned_recipe": tuned, "steps": one.steps, "finals": finals}
