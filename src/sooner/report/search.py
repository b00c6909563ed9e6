"""From what a search found to an answer: the recipe in one line, how surely it is sooner, and what was tried."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from sooner.report.forecast.answer import Answer, Cell, Grid
from sooner.search import Measured, Outcome, Search

_STAGES = ("One change at a time", "Combinations", "The last few, on fresh seeds")


def answer(search: Search, found: Outcome, confirmed: dict[str, Any] | None) -> Answer:
    """Return the answer of `sooner find`.

    Args:
        search: what was asked.
        found: what it came to.
        confirmed: result of the race against the recipe that the search began with, None where nothing was better.
    """
    metric = search.task.metric
    grids = [_grid(title, stage, metric, search) for title, stage in zip(_STAGES, found.stages, strict=False)]
    return Answer(
        f"Which recipe trains {search.task.name} soonest?",
        headline(search, found, confirmed),
        grids,
        [],
        [f"{name} was left out: {why}" for name, why in found.refused.items()],
        _notes(search, found),
        {
            "task": search.task.name,
            "base": str(search.base),
            "among": [choice.name for choice in search.among],
            "budget_seconds": search.budget,
            "recipe": str(found.recipe),
            "proven": proven(confirmed),
            "code": code(search, confirmed),
            "spent": asdict(found.spent),
            "stages": [[_data(one) for one in stage] for stage in found.stages],
            "confirmation": None if confirmed is None else _row(confirmed),
        },
    )


def headline(search: Search, found: Outcome, confirmed: dict[str, Any] | None) -> str:
    """Return one sentence: what was found, and what the confirmation says of it."""
    if confirmed is None:
        return f"nothing that was tried is better than {search.base} on {search.task.name}"
    row = _row(confirmed)
    base, final = str(search.base), row["final"]
    told = {
        "better": f"use {row['tuned_recipe']}",
        "worse": f"stay with {base}: what looked best, {found.recipe}, is worse on fresh seeds",
    }.get(final["word"], f"{found.recipe} looked best, and fresh seeds can't tell it from {base}")
    whole = _ratio(row["targets"].get("tight"))
    reached = f"; to the value that {base} ends at it needs {whole} the steps" if whole else ""
    early = _ratio(row["targets"].get(confirmed["primary_target"]))
    later = f", but to the {confirmed['primary_target']} target {early}" if row["verdict"] == "slower" and early else ""
    return f"{told}: it {final['sentence']}{reached}{later}"


def _ratio(ratio: dict[str, Any] | None) -> str:
    """Return a ratio with its interval, empty where too few runs arrived."""
    if ratio is None or None in (ratio["ratio"], ratio["low"], ratio["high"]):
        return ""
    return f"{ratio['ratio']:.2f}x [{ratio['low']:.2f}, {ratio['high']:.2f}]"


def proven(confirmed: dict[str, Any] | None) -> bool:
    """Return whether fresh seeds say that what was found is better."""
    return confirmed is not None and _row(confirmed)["final"]["word"] == "better"


def code(search: Search, confirmed: dict[str, Any] | None) -> str:
    """Return what to paste into a script: what is proven to be better, tuned, or else what the search began with."""
    best = _row(confirmed)["tuned_recipe"] if confirmed is not None and proven(confirmed) else search.base
    return f'training = sooner.Recipe("{best}").build(model, steps={search.length})'


def _row(confirmed: dict[str, Any]) -> dict[str, Any]:
    row = next(r for r in confirmed["contenders"] if not r["baseline"])
    return {
        key: row[key] for key in ("recipe", "tuned_recipe", "verdict", "sentence", "targets", "final", "time_ratio")
    }


def _grid(title: str, stage: Sequence[Measured], metric: str, search: Search) -> Grid:
    sign = -1.0 if search.task.higher_is_better else 1.0
    base = next((one for one in stage if str(one.recipe) == str(search.base)), None)
    rows: list[list[Cell]] = []
    for one in sorted(stage, key=lambda one: float(np.mean(one.values))):
        mean = float(np.mean(one.values))
        shown = "diverged" if not math.isfinite(mean) else f"{sign * mean:.4g}"
        rows.append([str(one.tuned), shown, _against(one, base), len(one.values)])
    heads = ("recipe, tuned", f"final {metric}", f"against {search.base}", "seeds")
    return Grid(title, heads, rows)


def _against(one: Measured, base: Measured | None) -> str | None:
    if base is None or one is base or not all(map(math.isfinite, [*one.values, *base.values])):
        return None
    difference = np.array(one.values) - np.array(base.values)
    return f"{difference.mean():+.3g}"


def _notes(search: Search, found: Outcome) -> list[str]:
    spent = found.spent
    told = [
        f"a run of {search.base} takes {found.run_seconds:.3g} s of processor time; every recipe got {spent.tune} "
        f"tuning trials and half as many in a wider range, single changes {spent.screen} seeds, combinations "
        f"{spent.combine}, the last few {spent.choose}",
        "stages compare whole runs on equal seeds, each on seeds of its own; only the confirmation says what is better",
    ]
    if found.factors:
        told.append(f"combined: {', '.join(found.factors)}")
    return told


def _data(one: Measured) -> dict[str, Any]:
    values = [value if math.isfinite(value) else None for value in one.values]
    return {"recipe": str(one.recipe), "tuned_recipe": str(one.tuned), "values": values, "seconds": one.seconds}
