"""The search: single changes first, then combinations of the best by design, then a choice among few on fresh seeds.

Nothing is judged by half a run: every comparison is between whole runs on the same seeds, and every stage has seeds of
its own, so that the luck which brought a recipe forward does not count for it twice. Whether what comes out is truly
sooner is not decided here but by a race against the recipe the search began with, on seeds that chose nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sooner.ablation.design import Design, design
from sooner.ablation.effects import effects, predictions
from sooner.race.plan import Plan
from sooner.race.pool import Pool
from sooner.recipe import Recipe
from sooner.search.budget import Effort, effort
from sooner.search.candidates import Choice, possible, with_choices
from sooner.search.measure import Measured, measure, stage
from sooner.task import Task
from sooner.watch import Watch

SINGLE, COMBINED, CHOSEN, CONFIRMED = range(4)
"""Which series of seeds each stage has, counted from the search's own."""
SERIES_OF_A_SEARCH = 4


@dataclass
class Search:
    """A search for the recipe of a task.

    Args:
        task: what is trained.
        base: the recipe it begins with, and has to beat.
        among: what may be added to it.
        budget: in seconds of wall time, the confirmation included.
        folder: of its stages, each of which goes on where it was stopped.
        jobs: runs at once.
        steps: of a run, None for the task's own.
        options: of every `Plan`, such as `device`.
        series: another number is the same search on other seeds.
        told: is told in words what comes next.
        watch: makes a watcher for a stage of so many jobs.
    """

    task: Task
    base: Recipe
    among: Sequence[Choice]
    budget: float
    folder: Path
    jobs: int = 1
    steps: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    series: int = 0
    told: Callable[[str], None] = print
    watch: Callable[[Plan], Watch] = lambda _: Watch()

    @property
    def length(self) -> int:
        """Steps of a run."""
        return self.task.steps if self.steps is None else self.steps

    def run(self, pool: Pool | None = None) -> Outcome:
        """Search, and return what was found; the confirmation is another step.

        Raises:
            SoonerError: the recipe can't train the task, nothing can be added to it, or the budget is too small.
        """
        usable, refused = self._usable()
        (alone,) = self._measure("alone", SINGLE, [self.base], 1, 0, pool)
        spent = self._effort(alone.seconds, usable)
        self.told(f"a run takes {alone.seconds:.3g} s; {len(usable)} changes of {self.base}, one at a time")
        singles = [with_choices(self.base, [choice]) for choice in usable]
        single = self._measure("single", SINGLE, [self.base, *singles], spent.screen, spent.tune, pool)
        factors = _best(usable, single[1:], single[0], spent.factors)
        if not factors:
            return Outcome(self.base, [single], [], refused, spent, alone.seconds)
        self.told(f"combining {', '.join(choice.name for choice in factors)}")
        combined, order = self._combine(factors, spent, pool)
        finalists = [m.recipe for m in order if str(m.recipe) != str(self.base)][: spent.finalists]
        self.told(f"choosing among {len(finalists)} on fresh seeds")
        last = self._measure("chosen", CHOSEN, [self.base, *finalists], spent.choose, spent.tune, pool)
        winner = min(last, key=lambda m: float(np.mean(m.values)))
        names = [choice.name for choice in factors]
        return Outcome(winner.recipe, [single, combined, last], names, refused, spent, alone.seconds)

    def confirming(self, found: Recipe, seeds: int) -> Plan:
        """Return the race of what was found against the recipe that the search began with, on seeds of its own."""
        options = {**self.options, "looks": (seeds,), "jobs": self.jobs, "steps": self.steps}
        folder = self.folder / "confirmed"
        return Plan(self.task, [self.base, found], out=folder, series=self._series(CONFIRMED), arms=False, **options)

    def _usable(self) -> tuple[list[Choice], dict[str, str]]:
        """Return the choices that make a recipe of their own for this task, and why others don't."""
        usable, refused = [], {}
        for choice in self.among:
            recipe = None
            try:
                recipe = with_choices(self.base, [choice])
                why = possible(self.task, recipe, self.length)
            except Exception as error:  # a part may refuse in its own words
                why = str(error)
            if recipe is not None and str(recipe) == str(self.base):
                continue  # it has that already
            if why:
                refused[choice.name] = why
            else:
                usable.append(choice)
        return usable, refused

    def _effort(self, seconds: float, usable: Sequence[Choice]) -> Effort:
        fixed = any(c.part is not None and not c.part.horizon_free for c in usable) or not self.base.horizon_free
        return effort(self.budget, seconds, self.jobs, len(usable), fixed)

    def _combine(
        self, factors: Sequence[Choice], spent: Effort, pool: Pool | None
    ) -> tuple[list[Measured], list[Measured]]:
        """Return all combinations, and the same with the most promising first."""
        made = design(len(factors), True) if len(factors) > 1 else Design(np.array([[1], [-1]], dtype=np.int8), False)
        arms = [
            with_choices(self.base, [f for f, on in zip(factors, row, strict=True) if on > 0]) for row in made.levels
        ]
        can = [not possible(self.task, arm, self.length) for arm in arms]
        ran = self._measure(
            "combined",
            COMBINED,
            [arm for arm, ok in zip(arms, can, strict=True) if ok],
            spent.combine,
            spent.tune,
            pool,
        )
        by_name = {str(m.recipe): m for m in ran}
        every = [by_name[str(arm)] if ok else None for arm, ok in zip(arms, can, strict=True)]
        return ran, _promising(made, every)

    def _measure(
        self, name: str, number: int, recipes: Sequence[Recipe], seeds: int, tune: int, pool: Pool | None
    ) -> list[Measured]:
        looks = {"looks": (max(seeds, 6),), "jobs": self.jobs, "steps": self.steps, "tune": tune}
        different = list({str(r): r for r in recipes}.values())
        plan = stage(self.task, different, self.folder / name, series=self._series(number), **{**self.options, **looks})
        return measure(plan, recipes, seeds, self.watch(plan), pool)

    def _series(self, number: int) -> int:
        return self.series * SERIES_OF_A_SEARCH + number


@dataclass(frozen=True)
class Outcome:
    """What a search has found.

    Args:
        recipe: the best, perhaps the one it began with.
        stages: what was measured: single changes, combinations, the last few.
        factors: what was combined.
        refused: choices that can't be made here, and why.
        spent: how much was spent on every stage.
        run_seconds: processor time of one run of the recipe it began with.
    """

    recipe: Recipe
    stages: list[list[Measured]]
    factors: list[str]
    refused: dict[str, str]
    spent: Effort
    run_seconds: float


def _best(choices: Sequence[Choice], measured: Sequence[Measured], base: Measured, most: int) -> list[Choice]:
    """Return the choices worth combining, the best first: none surely worse, one of those that exclude each other."""
    ranked = sorted(zip(choices, measured, strict=True), key=lambda pair: _gain(pair[1], base)[0], reverse=True)
    kept: list[Choice] = []
    for choice, one in ranked:
        gain, doubt = _gain(one, base)
        if gain + doubt > 0 and not any(choice.excludes(other) for other in kept):
            kept.append(choice)
    return kept[:most]


def _gain(one: Measured, base: Measured) -> tuple[float, float]:
    """Return how much better than the base, over the runs' own scatter, and two standard errors of that."""
    if not all(map(math.isfinite, one.values)):
        return -math.inf, 0.0
    if not all(map(math.isfinite, base.values)):
        return math.inf, 0.0
    better = np.array(base.values) - np.array(one.values)
    return float(better.mean()), 2 * float(better.std(ddof=1) / np.sqrt(better.size)) if better.size > 1 else math.inf


def _promising(made: Design, arms: Sequence[Measured | None]) -> list[Measured]:
    """Return the arms that ran, the best first: by what the effects of parts and sure pairs predict where all of them
    ran to the end, which is surer than an arm's own mean; else by that."""
    ran = [arm for arm in arms if arm is not None]
    whole = [arm for arm in ran if all(map(math.isfinite, arm.values))]
    if len(whole) < len(arms) or len(arms) < 4 or len(whole[0].values) < 2:
        return sorted(ran, key=lambda arm: float(np.mean(arm.values)))
    found = effects(made, np.array([arm.values for arm in whole]), 0.0)
    return [whole[i] for i in np.argsort(predictions(made, found), kind="stable")]
