"""The plan of a race, fixed before the first step: who races, on which seeds, for how long, and under which rules.

The plan is the race's identity. A journal belongs to one plan, so nothing that could change a result can change
half-way.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sooner.cluster.workers import Cluster
from sooner.communication._doubts import doubts
from sooner.communication._wire import Sim
from sooner.error import SoonerError
from sooner.loop import evaluation_steps, provided_by, refuse_unmet
from sooner.part import SURGERY
from sooner.race import limits, tuning
from sooner.race.arms import with_arms
from sooner.race.machine import processor, versions
from sooner.race.pool import Cell
from sooner.race.source import sources
from sooner.race.statistics import can_reach, seeds_needed
from sooner.race.targets import ladder
from sooner.recipe import Recipe
from sooner.space import Settings
from sooner.task import Task, check
from sooner.task.by_value import digest, needs_value, pack

_SERIES = 100_000
_OFFSETS = {"tuning": 10_000, "target": 20_000, "racing": 30_000, "a/a": 40_000}
_PILOT = 50_000
"""A pilot has seeds of its own, which no race of the series uses."""


@dataclass
class Plan:
    """Who races whom on what.

    Args:
        task: what is trained.
        recipes: the contenders; the first is the baseline.
        looks: numbers of racing seeds after which the race is judged, ascending, declared before it starts; the last is
            the most it uses.
        until: instead of looks, judge after every seed, and race on until all are decided or so many seeds were used.
        tune: quasi-random tuning trials per contender, besides its default.
        steps: budget in optimizer steps, None for the task's own.
        regime: "anytime" (first crossing counts), "budgeted" (each horizon is a run of its own) or "auto".
        jobs: worker processes; does not change any number but the time it takes.
        series: another number is the same race on other seeds.
        ablate: also race every stack with one of its parts left out at a time.
        measure_cost: measure per-step time and memory after the race; not done in a simulated cluster, where it would
            say nothing of a real one.
        out: the race's folder; None for ``races/TASK-HASH`` below the working directory.
        command: what to type to repeat the race, for the report.
        workers: of a simulated cluster, in which every run trains; 1 for none.
        world: processes that train every run together, on the loopback interface; 1 for none.
        pilot: nobody races; the baseline alone is tuned and run on seeds of their own, to plan a race (see `pilot`).
        arms: where communication is compared, also race what nobody should do without (see `arms`).

    Raises:
        SoonerError: a value that makes no race, or a recipe or task that cannot run.
    """

    task: Task
    recipes: list[Recipe]
    looks: Sequence[int] = (limits.DEFAULT_SEEDS,)
    tune: int = 5
    steps: int | None = None
    regime: str = "auto"
    jobs: int = field(default_factory=lambda: os.cpu_count() or 1)
    series: int = 0
    ablate: bool = False
    measure_cost: bool = True
    out: Path | None = None
    command: str = ""
    workers: int = 1
    world: int = 1
    arms: bool = False
    until: int | None = None
    pilot: bool = False

    def __post_init__(self) -> None:
        limits.check_counts(self.jobs, self.tune, self.series, self.workers, self.world)
        self.measure_cost = self.measure_cost and self.workers == 1
        self.budget: int = self.task.steps if self.steps is None else self.steps
        limits.check_budget(self.budget)
        self.looks = limits.looks_of(self.looks, self.until)
        self._check_recipes()
        fixed = [str(r) for r in self.recipes if not r.horizon_free]
        self.regime = limits.regime_of(self.regime, fixed)
        self.horizons = ladder(self.budget) if self.regime == "budgeted" else [self.budget]
        self._check_task()
        self._check_trials()
        self.sources = sources(self.recipes)

    def _check_recipes(self) -> None:
        texts = [str(r) for r in self.recipes]
        limits.check_different(texts)
        self.missing_arms: list[str] = []
        if self.world > 1 or self.workers > 1:
            whole = with_arms(self.recipes)
            self.missing_arms = [] if self.arms else [str(r) for r in whole if str(r) not in texts]
            self.recipes = whole if self.arms else self.recipes
            texts = [str(r) for r in self.recipes]
        if self.ablate:
            less = {str(left): left for r in self.recipes[1:] for left in r.left_out(self.recipes[0])}
            self.recipes = [*self.recipes, *(left for text, left in less.items() if text not in texts)]
        for recipe in self.recipes:
            Recipe(str(recipe))  # workers read recipes as text

    def _check_task(self) -> None:
        task = self.task
        if self.regime == "anytime" and task.evaluations < limits.LEAST_EVALUATIONS:
            raise SoonerError(
                f"task {task.name}: evaluations = {task.evaluations} is too few to see when a run reaches a target; "
                f"set it to {limits.LEAST_EVALUATIONS} or more, 25 is the default"
            )
        self.checked = check(replace(task, steps=self.horizons[-1]))  # batches must last for the longest run
        by_value = needs_value(task)
        self._packed = pack(task) if by_value else None  # once: all runs get the task as it is now
        self._code = {"code": digest(task)} if by_value else {}

    def _check_trials(self) -> None:
        """Make every recipe for the model with the first settings it will be tried with, so that no worker has to."""
        for recipe in self.recipes:
            refuse_unmet(self.task, recipe)
            for settings in tuning.trials(recipe.space, recipe.default, min(self.tune, 2) + 1):
                tried = recipe.with_settings(settings)
                if self.workers > 1:
                    Cluster(self.task, tried, 0, self.budget, self.workers)
                else:
                    wire = Sim(self.world) if self.world > 1 else None
                    tried.build(self.task.model(0), self.budget, provided_by(self.task), wire)

    @property
    def baseline(self) -> Recipe:
        """The first recipe."""
        return self.recipes[0]

    @property
    def alpha(self) -> float:
        """Level of one look: the error rate is divided among declared looks; bets allow a look after every seed."""
        return limits.ALPHA if self.until else limits.ALPHA / len(self.looks)

    @property
    def every_seed(self) -> bool:
        """Whether the race is judged after every seed, by tests and intervals that hold at all these looks at once."""
        return self.until is not None

    def seeds(self, purpose: str) -> list[int]:
        """Return the seeds used for "tuning", "target", "racing" or "a/a"; the four sets are disjoint."""
        count = {"tuning": 1, "target": limits.TARGET_SEEDS}.get(purpose, self.looks[-1])
        first = self.series * _SERIES + _OFFSETS[purpose] + (_PILOT if self.pilot else 0)
        return list(range(first, first + count))

    def warnings(self) -> list[str]:
        """Return what the reader must know of the plan itself."""
        notes = []
        rivals = len(self.recipes) - 1
        if not can_reach(self.looks[-1], rivals, self.alpha, self.every_seed):
            need = seeds_needed(rivals, self.alpha, self.every_seed)
            notes.append(
                f"{self.looks[-1]} seeds cannot give any of {rivals} contenders a verdict after correction; at least "
                f"{need} are needed"
            )
        pinned = [r for r in self.recipes if not r.space]
        notes += [f"{r} has no hyper-parameter left to tune: it races as written, untuned" for r in pinned]
        if self.missing_arms:
            notes.append(
                f"nobody had to beat {', '.join(self.missing_arms)} (--no-arms): what wins here may owe that to "
                "something simpler"
            )
        if self.crew():
            notes += [f"{r}: {doubt}" for r in self.recipes for doubt in self._doubts(r)]
        if self.tune == 0:
            notes.append("nobody was tuned (--tune 0): the race compares defaults, not methods")
        return notes

    def _doubts(self, recipe: Recipe) -> list[str]:
        """Return what speaks against the communication parts of a recipe in front of its optimizers."""
        slots = recipe.with_settings(recipe.default).slots
        parts = [s.factory(**s.settings) for s in slots if s.station == "communication"]
        alone = Recipe(*(s for s in slots if s.station in ("update", *SURGERY)))
        built = alone.build(self.task.model(0), self.budget, provided_by(self.task))
        return doubts(parts, built.optimizers, max(self.workers, self.world))

    def identity(self) -> dict[str, Any]:
        """Return everything that decides the result, and nothing else."""
        return {
            "rules": limits.RULES,
            "task": {
                "name": self.task.name,
                "fingerprint": self.checked["fingerprint"],
                "parameters": self.checked["parameters"],
                "metric": self.task.metric,
                "higher is better": self.task.higher_is_better,
                "evaluations": self.task.evaluations,
                **self._size(),
                **self._code,
            },
            "recipes": [str(r) for r in self.recipes],
            "sources": self.sources,
            "steps": self.budget,
            "regime": self.regime,
            "looks": [] if self.until else list(self.looks),
            **({"until": self.until} if self.until else {}),
            **({"pilot": True} if self.pilot else {}),
            "tune": self.tune,
            "series": self.series,
            "cost measured": self.measure_cost,
            "versions": versions(),
            "processor": processor(),
            **self.crew(),  # nothing for one worker, so that older races stay what they are
        }

    def folder(self) -> Path:
        """Return the race's folder: `out`, or one named after the identity, so that the same command finds it again."""
        if self.out is not None:
            return self.out
        identity = hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()
        return Path("races") / f"{'pilot-' if self.pilot else ''}{self.task.name}-{identity[:8]}"

    def trial(self, recipe: Recipe, settings: Settings, seed: int) -> Cell:
        """Return one full-length run, as tuning needs it."""
        return self._cell(recipe, settings, seed, self.budget, [self.budget])

    def long_run(self, recipe: Recipe, settings: Settings, seed: int, budgets: Sequence[int]) -> Cell:
        """Return one run to the longest of several budgets, evaluated as runs of each of them would be."""
        grid = set().union(*(evaluation_steps(budget, self.task.evaluations) for budget in budgets))
        return self._cell(recipe, settings, seed, max(budgets), sorted(grid))

    def runs(self, recipe: Recipe, settings: Settings, seed: int) -> list[Cell]:
        """Return the runs that one contender needs on one seed: one, or one per horizon in the budgeted regime.

        A recipe that does not plan for a fixed end takes the same first steps at every horizon, so one run to the
        longest serves all.
        """
        if recipe.horizon_free:
            return [self._cell(recipe, settings, seed, self.horizons[-1], self.horizons)]
        return [self._cell(recipe, settings, seed, horizon, [horizon]) for horizon in self.horizons]

    def _cell(self, recipe: Recipe, settings: Settings, seed: int, steps: int, horizons: Sequence[int]) -> Cell:
        text = str(recipe.with_settings(settings))
        grid = {0, *horizons}
        if steps >= self.budget:
            grid |= evaluation_steps(self.budget, self.task.evaluations)
        payload = {
            "do": "train",
            "task": self.sendable_task(),
            "recipe": text,
            "seed": seed,
            "steps": steps,
            "evaluate_at": sorted(grid),
            **self.crew(),
        }
        return Cell(f"{text} | seed {seed} | {steps} steps", payload, float(steps))

    def crew(self) -> dict[str, int]:
        """Return how many train every run together, as identity and cells say it."""
        return {name: count for name, count in (("workers", self.workers), ("world", self.world)) if count > 1}

    def sendable_task(self) -> dict[str, Any]:
        """Return what a worker needs to find the task: its name or path with the text it had, or the task itself."""
        if self._packed is not None:
            return {"packed": self._packed}
        if not self.task.spec:
            return {"task": self.task}
        text = hashlib.sha256(self.task.source.encode()).hexdigest()
        return {"spec": self.task.spec, "digest": text, **self._size()}

    def _size(self) -> dict[str, float]:
        """Return the size of the model where it is not the task's own, so that older races stay what they are."""
        return {} if self.task.size == 1 else {"size": self.task.size}

    def task_changed(self) -> bool:
        """Say whether the file that defines the task is no longer what it was when the race began."""
        if not self.task.spec.endswith(".py"):
            return False
        try:
            return Path(self.task.spec).read_text(encoding="utf-8") != self.task.source
        except (OSError, UnicodeError):
            return True
