"""One stage of a search: tune some recipes alike, race each to one target on the same seeds, and write all of it down.

One quantity goes through the whole search, the one that the confirming race judges: steps to the middle target, on the
scale of logarithms, so that a difference is a ratio. The target is set once, by the tuned recipe that the search began
with. As everywhere in a race, tuning goes by the final value.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sooner.error import SoonerError
from sooner.race.evidence import PRIMARY
from sooner.race.journal import Journal
from sooner.race.plan import Plan
from sooner.race.planned import Planned
from sooner.race.pool import Pool
from sooner.race.referee import Race, pool_of, provenance
from sooner.race.shelf import Shelf
from sooner.space import Settings
from sooner.watch import Watch

MISSED = 2.0
"""A run that misses the target counts as one that takes so many times the longest run."""
TIMED = "timed"
"""Kind and key of the record that says how long a run takes."""


@dataclass(frozen=True)
class Measured:
    """What one recipe came to.

    Args:
        recipe: with its ranges.
        settings: of its best tuning trial, None where none could be used.
        steps: to the target, of every run; None for one that misses it, or diverged.
        longest: steps of the longest run, before which a target can be reached.
        finals: the metric at the end of every run's budget, None where that is no number.
    """

    recipe: Any
    settings: Settings | None
    steps: list[float | None]
    longest: int
    finals: list[float | None]

    @property
    def tuned(self) -> Any:
        """The recipe with its best settings."""
        return self.recipe.with_settings(self.settings or {})

    @property
    def hits(self) -> int:
        """Runs that reached the target."""
        return sum(one is not None for one in self.steps)

    @property
    def logs(self) -> list[float]:
        """Logarithms of steps to the target; one that misses it counts as `MISSED` times the longest run."""
        return [math.log(max(MISSED * self.longest if one is None else one, 1.0)) for one in self.steps]

    @property
    def typical(self) -> float:
        """Steps to the target, the geometric mean."""
        return math.exp(sum(self.logs) / len(self.logs))


@dataclass(frozen=True)
class Stage:
    """What a stage came to.

    Args:
        measured: of every recipe.
        target: value that was to be reached, lower is better.
    """

    measured: list[Measured]
    target: float


def alone(plan: Planned, watch: Watch | None = None, pool: Pool | None = None) -> float:
    """Return what one run of the whole budget of a plan's only entrant takes, in seconds of wall time.

    Evaluations and what lies between runs are in it. A run before it starts the workers. It is measured once and kept,
    so that a search that goes on has the room it had.

    Raises:
        SoonerError: it can't run.
    """
    with _racing(plan, watch, pool) as race:
        race.tune()
        if (known := race.journal.find(TIMED, TIMED)) is None:
            c = race.baseline
            began = time.monotonic()
            race.ensure("timing a run", [plan.trial(c.recipe, c.settings or {}, plan.seeds("racing")[0])], 0.0)
            known = {"seconds": time.monotonic() - began}
            race.journal.append(TIMED, TIMED, known)
        return float(known["seconds"])


def measure(
    plan: Planned, seeds: int, target: float | None = None, watch: Watch | None = None, pool: Pool | None = None
) -> Stage:
    """Return how late every entrant of a plan reaches a target.

    The seeds are those with which a race of the plan's series would race; runs of earlier stages are not made again.

    Args:
        plan: of all recipes, the first of which sets the target.
        seeds: how many each races on.
        target: value to reach; None for the middle target, set by the first recipe.
        watch: is told what happens.
        pool: workers; None starts them and ends them afterwards.

    Raises:
        SoonerError: the folder can't be used, the first recipe can't run, or it sets no target.
    """
    with _racing(plan, watch, pool) as race:
        race.tune()
        evidence = race.evidence
        if target is None:
            race.set_targets()
            target = evidence.targets[PRIMARY]
        if target is None:
            raise SoonerError(
                f"{plan.baseline} does not get below its starting value on {plan.task.name} in {plan.budget} steps, so "
                "there is no target to reach sooner; give more --steps"
            )
        racing = [c for c in race.contenders if c.settings is not None]
        cells = [cell for i in range(seeds) for c in racing for cell in evidence.cells(c, "racing", i)]
        race.ensure("comparing", cells, 0.0)
        found = []
        for c in race.contenders:
            numbers = range(seeds) if c.settings is not None else range(0)
            steps = [evidence.steps_to(c, "racing", i, target) for i in numbers]
            finals = [evidence.final(c, "racing", i) for i in numbers]
            nothing: list[float | None] = [None] * seeds
            longest = plan.horizons[-1]
            found.append(Measured(c.recipe, c.settings, steps or nothing, longest, finals or nothing))
    return Stage(found, target)


@contextlib.contextmanager
def _racing(plan: Planned, watch: Watch | None, pool: Pool | None) -> Iterator[Race]:
    folder = plan.folder()
    shelf = Shelf(plan, folder.parent) if isinstance(plan, Plan) else None
    with (
        Journal.open(folder, plan.identity(), provenance(plan)) as journal,
        contextlib.nullcontext(pool) if pool else pool_of(plan) as workers,
    ):
        yield Race(plan, journal, workers, watch or Watch(), shelf)
