"""One race per size of the model, and per length: the same contenders, each tuned anew, each race with its journal.

    for plan in plans(find("my_task.py"), ["adamw", "muon"], sizes=[1, 2, 4], horizons=[400]):
        run(plan)

Every race goes by the race rules on its own, learning rates tuned at every size and length alike. All lie in one
folder, which `sooner forecast gain` reads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sooner.error import SoonerError
from sooner.race.journal import FILE, read
from sooner.race.plan import Plan
from sooner.recipe import Recipe
from sooner.task import Task

LEAST = 2
"""Sizes; one says nothing of others."""


def check_sizes(sizes: Sequence[float], horizons: Sequence[int]) -> None:
    """Refuse sizes and lengths that make no family of races.

    Raises:
        SoonerError: names the first that is wrong.
    """
    for name, values, example in (("sizes", sizes, "1,2,4,8"), ("horizons", horizons, "500,1000,2000")):
        if list(values) != sorted(set(values)):
            shown = ",".join(f"{value:g}" for value in values)
            raise SoonerError(f"--{name} {shown} must be different and ascending, such as {example}")
    if len(sizes) < LEAST:
        raise SoonerError(f"--sizes needs {LEAST} sizes or more, such as 1,2,4,8; without it the task's own size races")


def plans(
    task: Task, recipes: Sequence[str], *, sizes: Sequence[float], horizons: Sequence[int] = (), **options: Any
) -> list[Plan]:
    """Return the plan of every race, small sizes and short lengths first.

    Args:
        task: its model takes a size.
        recipes: texts of the contenders, the baseline first.
        sizes: two or more, ascending; 1 is the task's own.
        horizons: budgets in steps, ascending; empty for the task's own.
        options: of every `Plan`, such as `looks` and `tune`; `out` is the folder of all.

    Raises:
        SoonerError: the task takes no size, or not these; or a race can't be planned.
    """
    lengths = list(horizons) or [task.steps]
    check_sizes(sizes, lengths)
    out = options.pop("out", None)
    sized = [task.at(size) for size in sizes]
    made = [_planned(one, recipes, steps=length, **options) for one in sized for length in lengths]
    counts = [plan.checked["parameters"] for plan in made[:: len(lengths)]]
    for size, larger, few, more in zip(sizes, sizes[1:], counts, counts[1:], strict=False):
        if more <= few:
            raise SoonerError(
                f"task {task.name} has {few:,} parameters at size {size:g} and {more:,} at size {larger:g}; "
                "model(seed, size) must grow with its size"
            )
    folder = _folder(task, made) if out is None else Path(out)
    for plan in made:
        plan.out = folder / f"size-{plan.task.size:g}-steps-{plan.budget}"
    return made


def _planned(task: Task, recipes: Sequence[str], **options: Any) -> Plan:
    try:
        return Plan(task, [Recipe(text) for text in recipes], **options)
    except SoonerError as error:
        if task.size == 1:
            raise
        raise SoonerError(f"at size {task.size:g}: {error}") from error


def _folder(task: Task, made: Sequence[Plan]) -> Path:
    identities = json.dumps([plan.identity() for plan in made], sort_keys=True)
    return Path("races") / f"{task.name}-sizes-{hashlib.sha256(identities.encode()).hexdigest()[:8]}"


def finished(folder: Path) -> list[tuple[float, dict[str, Any]]]:
    """Return size and result of every race of a folder that is finished, small sizes and short lengths first.

    Raises:
        SoonerError: a journal is damaged.
    """
    found = []
    for path in folder.glob(f"size-*/{FILE}"):
        journal = read(path.parent)
        result = journal.find("result", "result")
        if result is not None:
            found.append((float(journal.identity["task"].get("size", 1)), result))
    return sorted(found, key=lambda one: (one[0], one[1]["task"]["steps"]))
