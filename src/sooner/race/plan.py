"""The plan of a race, fixed before the first step: who races, on which seeds, for how long, and under which rules.

The plan is the race's identity. A journal belongs to one plan, so nothing that could change a result can change
half-way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sooner.cluster.workers import Cluster
from sooner.communication._doubts import doubts
from sooner.communication._wire import Sim
from sooner.error import SoonerError
from sooner.loop import provided_by, refuse_unmet
from sooner.part import SURGERY
from sooner.race import limits, tuning
from sooner.race.arms import with_arms
from sooner.race.entrant import Entrant
from sooner.race.machine import accelerator, processor, versions
from sooner.race.planned import Planned
from sooner.race.source import sources
from sooner.race.targets import ladder
from sooner.recipe import Recipe
from sooner.task import Task, check
from sooner.task.by_value import digest, needs_value, pack
from sooner.task.placing import check_precision


@dataclass
class Plan(Planned):
    """Who races whom on what.

    Args:
        task: what is trained.
        recipes: the contenders; the first is the baseline.
        looks: numbers of racing seeds after which the race is judged, ascending, declared before it starts; the last is
            the most it uses.
        until: instead of looks, judge after every seed, and race on until all are decided or so many seeds were used.
        tune: tuning trials per contender, besides its default.
        tuner: who proposes the settings of these trials, a name in `tuners.NAMES`.
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
        device: where runs train, "cpu" or what torch calls an accelerator.
        amp: "bf16" for mixed precision, None for the task's own.

    Raises:
        SoonerError: a value that makes no race, or a recipe or task that cannot run.
    """

    task: Task
    recipes: list[Recipe]
    device: str = "cpu"
    amp: str | None = None

    def __post_init__(self) -> None:
        check_precision(self.amp)
        if self.device != "cpu" and (self.workers > 1 or self.world > 1):
            raise SoonerError(
                f"--device {self.device}: several workers, simulated or not, race on the processor; give --device cpu"
            )
        limits.check_counts(self.jobs, self.tune, self.series, self.workers, self.world)
        self.measure_cost = self.measure_cost and self.workers == 1
        self.budget = self.task.steps if self.steps is None else self.steps
        limits.check_budget(self.budget)
        self.looks = limits.looks_of(self.looks, self.until)
        self.proposing()  # refuses a tuner that is not there
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

    def warnings(self) -> list[str]:
        """Return what the reader must know of the plan itself."""
        notes = super().warnings()
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
            **self.judging(),
            "versions": versions(),
            "processor": processor(),
            **({**self._place(), "accelerator": accelerator(self.device)} if self.device != "cpu" else self._place()),
            **self.crew(),  # nothing for one worker, so that older races stay what they are
        }

    def payload(self, tuned: Entrant, seed: int, steps: int, evaluate_at: Sequence[int]) -> dict[str, Any]:
        """Return what a worker needs to make one run."""
        return {
            "do": "train",
            "task": self.sendable_task(),
            "recipe": str(tuned),
            "seed": seed,
            "steps": steps,
            "evaluate_at": list(evaluate_at),
            "processor": processor(),
            **self.crew(),
        }

    def sendable_task(self) -> dict[str, Any]:
        """Return what a worker needs to find the task: its name or path with the text it had, or the task itself."""
        if self._packed is not None:
            return {"packed": self._packed, **self._place()}
        if not self.task.spec:
            return {"task": self.task, **self._place()}
        text = hashlib.sha256(self.task.source.encode()).hexdigest()
        return {"spec": self.task.spec, "digest": text, **self._size(), **self._place()}

    def _place(self) -> dict[str, str]:
        """Return device and precision where they are not the processor's own; older races stay what they are."""
        device = {} if self.device == "cpu" else {"device": self.device}
        return device if self.amp is None else {**device, "amp": self.amp}

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
