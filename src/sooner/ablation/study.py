"""The races of an ablation: one of all arms, one per size of the model, and one that confirms what may go.

study = Study(read("muon + ema + clip_norm"), design(3))
plan = study.plan(task, looks=(8,))
found = find(study, run(plan))
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sooner.ablation.design import Design
from sooner.ablation.effects import Effect, Effects, effects, mean
from sooner.ablation.factors import Stack
from sooner.race.plan import Plan
from sooner.recipe import Recipe
from sooner.task import Task

STEPS, LOSS = "steps", "final value"
WORTH = 0.05
"""A part that saves less than this share may go."""


@dataclass(frozen=True)
class Study:
    """A stack, and the arms that tell its parts apart.

    Args:
        stack: what of it may be left out.
        design: which to leave out together.
    """

    stack: Stack
    design: Design

    @property
    def arms(self) -> list[Recipe]:
        """The stack of every row of the design."""
        return [self.stack.arm(row.tolist()) for row in self.design.levels]

    @property
    def recipes(self) -> list[Recipe]:
        """All that race: the stack without any of its parts first, as it sets the target."""
        bare = self.stack.all_out
        return [bare, *(arm for arm in self.arms if str(arm) != str(bare))]

    def plan(self, task: Task, **options: Any) -> Plan:
        """Return the race of all arms.

        Args:
            task: what is trained.
            options: of every `Plan`.

        Raises:
            SoonerError: an arm can't train this task, or a value that makes no race.
        """
        return Plan(task, self.recipes, measure_cost=False, arms=False, **options)

    def confirming(self, task: Task, kept: Recipe, *, series: int = 0, **options: Any) -> Plan:
        """Return the race of what is left against the whole stack, on seeds that chose nothing."""
        return Plan(task, [self.stack.recipe, kept], series=series + 1, arms=False, **options)

    def kept(self, positions: list[int]) -> Recipe:
        """Return the stack with only these of its factors."""
        return self.stack.arm([1 if i in positions else -1 for i in range(len(self.stack.factors))])


@dataclass(frozen=True)
class Found:
    """What one race of all arms says.

    Args:
        measure: "steps" to a target, or "final value" where too few runs reach one.
        target: "middle" or "loose", empty for final values.
        effects: of the parts; None where even final values can't be compared, and then `why` says it.
        why: why other than the middle target, or nothing at all, was compared.
        whole: what the whole stack needs over what is needed without any part, on the scale of logarithms.
    """

    measure: str
    target: str
    effects: Effects | None
    why: str
    whole: Effect | None


def find(study: Study, result: dict[str, Any], worth: float = WORTH) -> Found:
    """Return what the arms of a finished race say of the parts.

    Steps to the race's primary target are compared where every run of every arm reaches it. Where some do not, steps
    to the loose one are, and where some don't reach that either, final values: a run that arrives nowhere says how
    bad it is, but not how late.

    Args:
        study: whose race it was.
        result: of `sooner.race.referee.run`.
        worth: see `effects`, as a share such as 0.05.
    """
    rows = {row["recipe"]: row for row in result["contenders"]}
    arms = [rows[str(arm)] for arm in study.arms]
    bare = rows[str(study.stack.all_out)]
    out = [row["recipe"] for row in arms if row["status"] == "out" or not row["seeds"]]
    if out:
        return Found("", "", None, f"{', '.join(out)} did not race: {rows[out[0]]['sentence']}", None)
    missing = ""
    for target in (result["primary_target"], "loose"):
        values = [_steps(row, target) for row in (*arms, bare)]
        if all(v is not None for v in values):
            logs = np.log(np.array(values))
            return _found(study, logs, STEPS, target, missing, worth)
        missed = [row["recipe"] for row, v in zip((*arms, bare), values, strict=True) if v is None]
        missing = f"not every run of {_few(missed)} reached the {target} target"
    ends = [[curve["values"][-1] for curve in row["curves"]] for row in (*arms, bare)]
    if all(v is not None and math.isfinite(v) and v > 0 for row in ends for v in row):
        sign = -1 if result["task"]["higher_is_better"] else 1
        return _found(study, sign * np.log(np.array(ends, dtype=np.float64)), LOSS, "", missing, worth)
    why = (
        f"{missing}, and final values can't be compared as ratios; give the runs more --steps, or hold the parts fixed"
    )
    return Found("", "", None, f"{why} that make runs diverge", None)


def _found(study: Study, logs: NDArray[np.float64], measure: str, target: str, why: str, worth: float) -> Found:
    made = effects(study.design, logs[:-1], math.log1p(worth))
    return Found(measure, target, made, why, mean(logs[0] - logs[-1]))


def _steps(row: dict[str, Any], target: str) -> list[float] | None:
    """Return the steps to a target by seed; None if a run misses it, or begins there."""
    measured = row["targets"].get(target)
    steps = [] if measured is None else measured["steps"]
    return steps if steps and all(s is not None and math.isfinite(s) and s > 0 for s in steps) else None


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} others" if len(names) > 3 else "")
