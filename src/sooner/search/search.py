"""The search: single changes first, then combinations of the best by design, then a choice among few on fresh seeds.

Nothing is judged by half a run: every comparison is between whole runs on the same seeds, and every stage has seeds of
its own, so that the luck which brought a recipe forward does not count for it twice. Whether what comes out is truly
sooner is not decided here but by a race against a rival, on seeds that chose nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sooner.ablation.design import Design, design
from sooner.ablation.effects import effects, predictions
from sooner.error import SoonerError
from sooner.race.planned import Planned
from sooner.race.pool import Pool
from sooner.search.budget import EFFORTS, LEAST_TUNING, Effort, Field, effort, fits
from sooner.search.ground import Change, Ground
from sooner.search.measure import Measured, Stage, alone, measure
from sooner.search.probe import Finding
from sooner.watch import Watch

SINGLE, COMBINED, CHOSEN, CONFIRMED = range(4)
"""Which series of seeds each stage has, counted from the search's own."""
SERIES_OF_A_SEARCH = 4
NO_ROOM = "the budget has no room for it, and it stands last in the order of what is tried"


@dataclass
class Search:
    """A search for the recipe of a task.

    Args:
        ground: what is trained: `OnTask`, or commands.
        base: the recipe it begins with.
        among: what may be added to it, the most promising first (see `sooner.search.probe`).
        budget: in seconds of wall time, the confirmation included.
        folder: of its stages, each of which goes on where it was stopped.
        jobs: runs at once.
        against: what has to be beaten in the end; None for the base, with a schedule that alone surely helps it.
        series: another number is the same search on other seeds.
        options: of every plan.
        findings: of a probe, which have ordered `among`; for the report.
        told: is told in words what comes next.
        watch: makes a watcher for a stage of so many jobs.
    """

    ground: Ground
    base: Any
    among: Sequence[Change]
    budget: float
    folder: Path
    jobs: int = 1
    against: Any = None
    series: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    told: Callable[[str], None] = print
    watch: Callable[[Planned], Watch] = lambda _: Watch()
    regime: str = field(default="auto", init=False)

    def run(self, pool: Pool | None = None) -> Outcome:
        """Search, and return what was found; the confirmation is another step.

        Raises:
            SoonerError: the recipe can't train the task, nothing can be added to it, or the budget is too small.
        """
        usable, refused = self._usable()
        plan = self._plan("alone", SINGLE, [self.base], 1, 0)
        seconds = alone(plan, self.watch(plan), pool)
        usable, spent = self._effort(seconds, usable, refused)
        self.told(f"a run takes {seconds:.3g} s; {len(usable)} changes of {self.base}, one at a time")
        self.regime = "budgeted" if self._fixed(usable) else "anytime"
        singles = [self.ground.made(self.base, [change]) for change in usable]
        first = self._measure("single", SINGLE, [self.base, *singles], spent.screen, spent.tune, None, pool)
        single, target = first.measured, first.target
        rival = self._rival(usable, single)
        factors = _best(usable, single[1:], single[0], spent.factors)
        if not factors:
            return Outcome(self.base, rival, [single], [], refused, spent, seconds, target)
        self.told(f"combining {', '.join(change.name for change in factors)}")
        combined, order = self._combine(factors, spent, target, pool)
        finalists = [m.recipe for m in order if str(m.recipe) != str(self.base)][: spent.finalists]
        self.told(f"choosing among {len(finalists)} on fresh seeds")
        last = self._measure("chosen", CHOSEN, [self.base, *finalists], spent.choose, spent.tune, target, pool)
        winner = min(last.measured, key=lambda m: m.typical).recipe
        rival = self.base if str(rival) == str(winner) else rival
        names = [change.name for change in factors]
        stages = [single, combined, last.measured]
        return Outcome(winner, rival, stages, names, refused, spent, seconds, target)

    def confirming(self, found: Outcome) -> Planned:
        """Return the race of what was found against its rival, on seeds of its own."""
        more = {"looks": (found.spent.confirm,), "regime": self.regime, "tune": max(found.spent.tune, LEAST_TUNING)}
        folder = self.folder / "confirmed"
        return self._planned([found.rival, found.recipe], out=folder, series=self._series(CONFIRMED), **more)

    def _usable(self) -> tuple[list[Change], dict[str, str]]:
        """Return the changes that make something of their own here, and why others don't."""
        usable, refused = [], {}
        for change in self.among:
            made = None
            try:
                made = self.ground.made(self.base, [change])
                why = self.ground.possible(made)
            except SoonerError as error:
                why = str(error)
            if made is not None and str(made) == str(self.base):
                continue  # it has that already
            if why:
                refused[change.name] = why
            else:
                usable.append(change)
        return usable, refused

    def _fixed(self, usable: Sequence[Change]) -> bool:
        return not self.base.horizon_free or any(change.planned_end for change in usable)

    def _effort(self, seconds: float, usable: list[Change], refused: dict[str, str]) -> tuple[list[Change], Effort]:
        """Return what is tried and how much is spent; what a small budget has no room for is left out from the end."""
        kept = list(usable)
        while len(kept) > 1 and not fits(EFFORTS[-1], self.budget, seconds, self.jobs, self._field(kept)):
            refused[kept.pop().name] = NO_ROOM
        return kept, effort(self.budget, seconds, self.jobs, self._field(kept))

    def _field(self, usable: Sequence[Change]) -> Field:
        fixed = sum(change.planned_end for change in usable)
        return Field(len(usable) - fixed, fixed, not self.base.horizon_free)

    def _rival(self, usable: Sequence[Change], single: Sequence[Measured]) -> Any:
        """Return what has to be beaten: a gain that a schedule alone would have brought is none of a stack's."""
        if self.against is not None:
            return self.against
        schedules = [one for change, one in zip(usable, single[1:], strict=True) if change.schedule]
        best = max(schedules, key=lambda one: _gain(one, single[0])[0], default=None)
        if best is None or _gain(best, single[0])[0] <= _gain(best, single[0])[1]:
            return self.base
        return best.recipe

    def _combine(
        self, factors: Sequence[Change], spent: Effort, target: float, pool: Pool | None
    ) -> tuple[list[Measured], list[Measured]]:
        """Return all combinations, and the same with the most promising first."""
        made = design(len(factors), True) if len(factors) > 1 else Design(np.array([[1], [-1]], dtype=np.int8), False)
        arms = [
            self.ground.made(self.base, [f for f, on in zip(factors, row, strict=True) if on > 0])
            for row in made.levels
        ]
        can = [not self.ground.possible(arm) for arm in arms]
        tried = [arm for arm, ok in zip(arms, can, strict=True) if ok]
        ran = self._measure("combined", COMBINED, tried, spent.combine, spent.tune, target, pool).measured
        by_name = {str(m.recipe): m for m in ran}
        every = [by_name[str(arm)] if ok else None for arm, ok in zip(arms, can, strict=True)]
        return ran, _promising(made, every)

    def _measure(
        self,
        name: str,
        number: int,
        recipes: Sequence[Any],
        seeds: int,
        tune: int,
        target: float | None,
        pool: Pool | None,
    ) -> Stage:
        plan = self._plan(name, number, recipes, seeds, tune, regime=self.regime)
        stage = measure(plan, seeds, target, self.watch(plan), pool)
        by_name = {str(m.recipe): m for m in stage.measured}
        return Stage([by_name[str(recipe)] for recipe in recipes], stage.target)

    def _plan(self, name: str, number: int, recipes: Sequence[Any], seeds: int, tune: int, **more: Any) -> Planned:
        different = list({str(r): r for r in recipes}.values())
        made = {"looks": (max(seeds, 6),), "tune": tune, "measure_cost": False, **more}
        return self._planned(different, out=self.folder / name, series=self._series(number), **made)

    def _planned(self, entrants: Sequence[Any], **more: Any) -> Planned:
        return self.ground.plan(entrants, **{**self.options, "jobs": self.jobs, **more})

    def _series(self, number: int) -> int:
        return self.series * SERIES_OF_A_SEARCH + number


@dataclass(frozen=True)
class Outcome:
    """What a search has found.

    Args:
        recipe: the best, perhaps the one it began with.
        rival: what it has to beat in the confirmation.
        stages: what was measured: single changes, combinations, the last few.
        factors: what was combined.
        refused: choices that can't be made here, and why.
        spent: how much was spent on every stage.
        run_seconds: wall time of one run of the recipe it began with.
        target: value that all runs of the search were to reach, lower is better.
    """

    recipe: Any
    rival: Any
    stages: list[list[Measured]]
    factors: list[str]
    refused: dict[str, str]
    spent: Effort
    run_seconds: float
    target: float


def _best(changes: Sequence[Change], measured: Sequence[Measured], base: Measured, most: int) -> list[Change]:
    """Return the changes worth combining, the best first: none surely worse, one of those that exclude each other."""
    ranked = sorted(zip(changes, measured, strict=True), key=lambda pair: _gain(pair[1], base)[0], reverse=True)
    kept: list[Change] = []
    for change, one in ranked:
        gain, doubt = _gain(one, base)
        if one.hits and gain + doubt > 0 and not any(change.excludes(other) for other in kept):
            kept.append(change)
    return kept[:most]


def _gain(one: Measured, base: Measured) -> tuple[float, float]:
    """Return how much sooner than the base, in logarithm, and two standard errors of that."""
    better = np.array(base.logs) - np.array(one.logs)
    return float(better.mean()), 2 * float(better.std(ddof=1) / np.sqrt(better.size)) if better.size > 1 else np.inf


def _promising(made: Design, arms: Sequence[Measured | None]) -> list[Measured]:
    """Return the arms that ran, the best first: by what the effects of parts and sure pairs predict where every run
    reached the target, which is surer than an arm's own mean; else by that."""
    ran = [arm for arm in arms if arm is not None]
    whole = [arm for arm in ran if arm.hits == len(arm.steps)]
    if len(whole) < len(arms) or len(arms) < 4 or len(whole[0].steps) < 2:
        return sorted(ran, key=lambda arm: arm.typical)
    found = effects(made, np.array([arm.logs for arm in whole]), 0.0)
    return [whole[i] for i in np.argsort(predictions(made, found), kind="stable")]
