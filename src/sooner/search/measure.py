"""One stage of a search: tune some recipes alike, train each on the same seeds to the end, and write all of it down."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sooner.error import SoonerError
from sooner.race.journal import Journal
from sooner.race.plan import Plan
from sooner.race.pool import Pool
from sooner.race.referee import Race, pool_of, provenance
from sooner.race.shelf import Shelf
from sooner.recipe import Recipe
from sooner.space import Settings
from sooner.watch import Watch


@dataclass(frozen=True)
class Measured:
    """What one recipe came to.

    Args:
        recipe: with its ranges.
        settings: of its best tuning trial, None where none could be used.
        values: the metric at the end of every run, lower is better; infinite for a run that diverged.
        seconds: processor time of a run, the mean.
    """

    recipe: Recipe
    settings: Settings | None
    values: list[float]
    seconds: float

    @property
    def tuned(self) -> Recipe:
        """The recipe with its best settings."""
        return self.recipe.with_settings(self.settings or {})


def measure(
    plan: Plan, recipes: Sequence[Recipe], seeds: int, watch: Watch | None = None, pool: Pool | None = None
) -> list[Measured]:
    """Return what every recipe comes to at the end of the task's budget.

    A recipe is trained for the whole budget at once, so schedules that plan for an end are treated as all others. The
    seeds are those with which a race of the plan's series would race; runs of earlier stages are not made again.

    Args:
        plan: of all recipes.
        recipes: in which order they are returned.
        seeds: how many each is trained on.
        watch: is told what happens.
        pool: workers; None starts them and ends them afterwards.

    Raises:
        SoonerError: the folder can't be used, or the plan's first recipe can't run.
    """
    folder = plan.folder()
    with (
        Journal.open(folder, plan.identity(), provenance(plan)) as journal,
        contextlib.nullcontext(pool) if pool else pool_of(plan) as workers,
    ):
        race = Race(plan, journal, workers, watch or Watch(), Shelf(plan, folder.parent))
        race.tune()
        running = [c for c in race.contenders if c.settings is not None]
        wanted = plan.seeds("racing")[:seeds]
        cells = {str(c.recipe): [plan.trial(c.recipe, c.settings or {}, seed) for seed in wanted] for c in running}
        race.ensure("comparing", [cell for some in zip(*cells.values(), strict=True) for cell in some], 0.0)
        found = {}
        for recipe, c in zip(plan.recipes, race.contenders, strict=True):
            runs = [(race.evidence.score(cell), race.evidence.data(cell)) for cell in cells.get(str(c.recipe), [])]
            values = [score[0] if score and math.isfinite(score[0]) else math.inf for score, _ in runs]
            spent = [float(data["cpu_seconds"]) for _, data in runs if data is not None]
            mean = sum(spent) / len(spent) if spent else math.inf
            found[str(recipe)] = Measured(recipe, c.settings, values or [math.inf] * seeds, mean)
    return [found[str(recipe)] for recipe in recipes]


def stage(task: Any, recipes: Sequence[Recipe], folder: Path, **options: Any) -> Plan:
    """Return the plan of a stage.

    Raises:
        SoonerError: a recipe can't train this task, or a value that makes no race.
    """
    try:
        return Plan(task, list(recipes), measure_cost=False, arms=False, out=folder, **options)
    except SoonerError as error:
        raise SoonerError(f"search: {error}") from error
