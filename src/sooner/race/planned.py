"""What every race fixes before its first step, whoever races: looks, seeds, horizons, and the runs they ask for."""

from __future__ import annotations

import abc
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sooner.loop import evaluation_steps
from sooner.race import limits, tuners
from sooner.race.entrant import Entrant, Subject
from sooner.race.pool import Cell
from sooner.race.statistics import can_reach, seeds_needed
from sooner.space import Settings

SERIES = 100_000
_OFFSETS = {"tuning": 10_000, "target": 20_000, "racing": 30_000, "a/a": 40_000}
_PILOT = 50_000
"""A pilot has seeds of its own, which no race of the series uses."""
CHECKS = 60_000
"""Nor do the runs that try a command out."""


@dataclass
class Planned(abc.ABC):
    """A race of any entrants: what `Plan` and the plan of a race of commands share.

    Args:
        task: what is trained.
        recipes: the contenders; the first is the baseline.
        looks: see `Plan`, and so for all others.
        silence: seconds without a word after which a run is given up; None for the pool's own.
        tuner: who proposes the settings of tuning trials, a name in `tuners.NAMES`.
        slots: environment variables of each place on a device, for one worker each; empty for the processor.
    """

    task: Subject
    recipes: Sequence[Entrant]
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
    silence: float | None = None
    tuner: str = tuners.DEFAULT
    slots: Sequence[Mapping[str, str]] = ()

    checked: dict[str, Any] = field(init=False, repr=False)
    budget: int = field(init=False)
    horizons: list[int] = field(init=False)

    @property
    def baseline(self) -> Entrant:
        """The first entrant."""
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
        first = self.series * SERIES + _OFFSETS[purpose] + (_PILOT if self.pilot else 0)
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
        return notes

    @abc.abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return everything that decides the result, and nothing else."""

    @abc.abstractmethod
    def task_changed(self) -> bool:
        """Say whether what is trained is no longer what it was when the race began."""

    @abc.abstractmethod
    def payload(self, tuned: Entrant, seed: int, steps: int, evaluate_at: Sequence[int]) -> dict[str, Any]:
        """Return what a worker needs to make one run."""

    def crew(self) -> dict[str, int]:
        """Return how many train every run together, as identity and cells say it."""
        return {name: count for name, count in (("workers", self.workers), ("world", self.world)) if count > 1}

    def judging(self) -> dict[str, Any]:
        """Return how the race tunes and judges, as its identity says it."""
        return {
            "steps": self.budget,
            "regime": self.regime,
            "looks": [] if self.until else list(self.looks),
            **({"until": self.until} if self.until else {}),
            **({"pilot": True} if self.pilot else {}),
            "tune": self.tune,
            "series": self.series,
            "cost measured": self.measure_cost,
            **self.proposing().identity(),
        }

    def proposing(self) -> tuners.Tuner:
        """Return who proposes the settings of tuning trials.

        Raises:
            SoonerError: nobody has that name, or Optuna is not installed.
        """
        return tuners.tuner(self.tuner, self.series * SERIES)

    def folder(self) -> Path:
        """Return the race's folder: `out`, or one named after the identity, so that the same command finds it again."""
        if self.out is not None:
            return self.out
        digest = hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()
        return Path("races") / f"{'pilot-' if self.pilot else ''}{self.task.name}-{digest[:8]}"

    def trial(self, recipe: Entrant, settings: Settings, seed: int) -> Cell:
        """Return one full-length run, as tuning needs it."""
        return self._cell(recipe, settings, seed, self.budget, [self.budget])

    def long_run(self, recipe: Entrant, settings: Settings, seed: int, budgets: Sequence[int]) -> Cell:
        """Return one run to the longest of several budgets, evaluated as runs of each of them would be."""
        grid = set().union(*(evaluation_steps(budget, self.task.evaluations) for budget in budgets))
        return self._cell(recipe, settings, seed, max(budgets), sorted(grid))

    def runs(self, recipe: Entrant, settings: Settings, seed: int) -> list[Cell]:
        """Return the runs that one contender needs on one seed: one, or one per horizon in the budgeted regime.

        A recipe that does not plan for a fixed end takes the same first steps at every horizon, so one run to the
        longest serves all.
        """
        if recipe.horizon_free:
            return [self._cell(recipe, settings, seed, self.horizons[-1], self.horizons)]
        return [self._cell(recipe, settings, seed, horizon, [horizon]) for horizon in self.horizons]

    def _cell(self, recipe: Entrant, settings: Settings, seed: int, steps: int, horizons: Sequence[int]) -> Cell:
        tuned = recipe.with_settings(settings)
        grid = {0, *horizons}
        if steps >= self.budget:
            grid |= evaluation_steps(self.budget, self.task.evaluations)
        payload = self.payload(tuned, seed, steps, sorted(grid))
        return Cell(f"{tuned} | seed {seed} | {steps} steps", payload, float(steps))
