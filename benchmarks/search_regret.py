"""How far is what a search picks from the best of an exhaustive comparison, and is that better than simpler ways?

    python benchmarks/search_regret.py [--steps 100] [--seeds 80] [--searches 40] [--folder DIR] [--out FILE]

Twelve stacks (three rules, each with and without averaging and clipping) are tuned and trained to the end on many
seeds, all of which is kept in a folder, so that a second start goes on. Then the real search is replayed from these
runs, without training: it asks for runs of recipes, and gets stored ones, of seeds drawn anew for every replay. One
half of the seeds serves searches, the other half says how good each stack truly is, so that no luck counts twice. The
regret of a pick is its steps to the target over those of the best stack, less one.

Beside it, in turns on the same draws: the first recipe as it is; a stack at random; and the plain way with as many
runs as the search took, all twelve stacks on equal seeds and the best mean. The search's confirmation is left out, as
it picks nothing, and so is the luck of tuning: each stack is tuned once, for all.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np

from sooner.error import SoonerError
from sooner.race.engines.processes import Processes
from sooner.race.evidence import PRIMARY
from sooner.race.journal import Journal
from sooner.race.limits import TARGET_SEEDS
from sooner.race.pool import Cell
from sooner.race.referee import Race, provenance
from sooner.recipe import Recipe
from sooner.search import OnTask, Search, choices, with_choices
from sooner.search.budget import EFFORTS, Effort
from sooner.watch import Watch
from sooner.workloads import find

BASE = "adamw"
RULES, AROUND = ("lion", "sgd"), ("ema", "clip_norm")
MISSED = 2.0
NAMES = ("search", "all alike", "at random", "as it is")

Data = dict[str, Any]


class Stored:
    """The runs of all stacks, by stack and number of the seed.

    Args:
        ground: the task.
        seeds: of each stack.
        folder: where they are kept.
    """

    def __init__(self, ground: OnTask, seeds: int, folder: Path) -> None:
        self.stacks = stacks()
        plan = ground.plan(self.stacks, looks=(seeds,), measure_cost=False, jobs=1, out=folder / "exhaustive")
        self.runs: dict[str, list[Data]] = {}
        with Journal.open(plan.folder(), plan.identity(), provenance(plan)) as journal, Processes(1) as pool:
            race = Race(plan, journal, pool, Watch(), None)
            race.tune()
            race.set_targets()
            target = race.evidence.targets[PRIMARY]
            if target is None or any(c.settings is None for c in race.contenders):
                raise SoonerError(
                    f"{ground.task.name} sets no target, or a stack can't be trained; take another --task"
                )
            cells = [[race.evidence.cells(c, "racing", i)[0] for i in range(seeds)] for c in race.contenders]
            race.ensure("all stacks", [cell for some in zip(*cells, strict=True) for cell in some], 0.0)
            self.steps = {}
            for c, mine in zip(race.contenders, cells, strict=True):
                self.runs[key(c.recipe)] = [race.evidence.data(cell) or {} for cell in mine]
                reached = [race.evidence.steps_to(c, "racing", i, target) for i in range(seeds)]
                self.steps[key(c.recipe)] = np.array([MISSED * plan.budget if s is None else s for s in reached])
            self.tuned = {key(c.recipe): str(c.tuned) for c in race.contenders}


class Replaying:
    """A pool that answers with stored runs; each seed that is asked for stands for one that is drawn.

    Args:
        stored: the runs.
        order: numbers of stored seeds, in the order in which they are handed out.
    """

    def __init__(self, stored: Stored, order: list[int]) -> None:
        self.stored, self.order, self.given, self.ran = stored, order, {}, 0

    def run(
        self,
        cells: list[Cell],
        on_result: Callable[[Cell, Data], None],
        on_progress: Any = None,
        on_failure: Any = None,
    ) -> None:
        """Answer all cells."""
        for cell in cells:
            number = self.order[self.given.setdefault(cell.payload["seed"], len(self.given))]
            self.ran += 1
            on_result(cell, json.loads(json.dumps(self.stored.runs[key(Recipe(cell.payload["recipe"]))][number])))

    def close(self) -> None:
        """Do nothing."""


class OfEffort(Search):
    """A search whose effort is said and not reckoned, and whose recipes were tuned before."""

    effort: Effort

    def _effort(self, seconds: float, usable: Any, refused: Any) -> Any:
        return usable, self.effort


def stacks() -> list[Recipe]:
    """Return all stacks, the first recipe first."""
    base = Recipe(BASE)
    named = {choice.name: choice for choice in choices(", ".join((*RULES, *AROUND)))}
    made = []
    for rule in ("", *RULES):
        for count in range(len(AROUND) + 1):
            for around in itertools.combinations(AROUND, count):
                made.append(with_choices(base, [named[name] for name in (rule, *around) if name]))
    return made


def key(recipe: Recipe) -> str:
    """Return the names of a stack's parts, whatever their settings are."""
    return " + ".join(sorted(slot.name for slot in recipe.slots))


def main(
    *,
    task: str = "quadratic",
    steps: int = 100,
    seeds: int = 80,
    searches: int = 40,
    folder: Path | None = None,
    out: Path | None = None,
) -> None:
    """Train all stacks, replay searches, print regrets.

    Args:
        task: a bundled workload.
        steps: of a run.
        seeds: of every stack; half for searches, half for the truth.
        searches: replays of each effort.
        folder: where the runs are kept; default a temporary one.
        out: JSON file for the figures.
    """
    with tempfile.TemporaryDirectory() as temporary:
        found = measured(task, steps, seeds, searches, folder or Path(temporary), Path(temporary))
    print(f"{task}, {steps} steps: {len(found['truth'])} stacks on {seeds} seeds; steps to the target of tuned {BASE}")
    for name, steps in sorted(found["truth"].items(), key=lambda pair: pair[1]):
        print(f"  {steps:7.1f}  {found['tuned'][name]}")
    for row in found["efforts"]:
        print(f"\neffort {row['effort']}: {row['runs']:.0f} runs a search, {searches} searches")
        print(f"  {'way':12} {'mean regret':>24} {'median':>7} {'90 %':>7} {'best found':>11}")
        for name in NAMES:
            one = row["ways"][name]
            print(
                f"  {name:12} {one['mean']:8.3f} [{one['low']:.3f}, {one['high']:.3f}] {one['median']:7.3f} "
                f"{one['ninetieth']:7.3f} {one['best']:10.0%}"
            )
    if out is not None:
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def measured(name: str, length: int, seeds: int, searches: int, folder: Path, aside: Path) -> dict[str, Any]:
    """Return the truth and the regrets of all ways, for every effort."""
    ground = OnTask(find(name), length)
    stored = Stored(ground, seeds, folder)
    half = seeds // 2
    logs = {one: np.log(steps) for one, steps in stored.steps.items()}
    truth = {one: float(np.exp(values[half:].mean())) for one, values in logs.items()}
    best = min(truth.values())
    rows = []
    for number, effort in enumerate(EFFORTS):
        if needed(effort) > half:
            print(f"effort {number + 1} needs {needed(effort)} seeds for a search and {half} are there: left out")
            continue
        regrets: dict[str, list[float]] = defaultdict(list)
        runs = []
        for replay in range(searches):
            draw = np.random.default_rng([number, replay])
            pool = Replaying(stored, draw.permutation(half).tolist())
            among = choices(", ".join((*RULES, *AROUND)))
            search = OfEffort(ground, Recipe(BASE), among, 1.0, aside / f"{number}-{replay}", told=lambda _: None)
            search.effort = replace(effort, tune=0)
            picked = {"search": key(search.run(pool).recipe)}
            runs.append(pool.ran)
            each = max(1, min(half, pool.ran // len(truth)))
            some = draw.permutation(half)[:each]
            picked["all alike"] = min(logs, key=lambda one: float(logs[one][some].mean()))
            picked["at random"] = str(draw.choice(sorted(truth)))
            picked["as it is"] = key(Recipe(BASE))
            for way, stack in picked.items():
                regrets[way].append(truth[stack] / best - 1)
        rows.append(
            {"effort": number + 1, "runs": float(np.mean(runs)), "ways": {way: told(regrets[way]) for way in NAMES}}
        )
    return {
        "task": name,
        "steps": length,
        "seeds": seeds,
        "searches": searches,
        "truth": truth,
        "tuned": stored.tuned,
        "efforts": rows,
    }


def needed(effort: Effort) -> int:
    """Return how many different seeds a search asks for: of three stages, of tuning in each, and of the target."""
    return effort.screen + effort.combine + effort.choose + 3 + TARGET_SEEDS


def told(regrets: list[float]) -> dict[str, float]:
    """Return the mean with its 95 % bootstrap interval, quantiles, and how often the best stack was picked."""
    values = np.array(regrets)
    draws = np.random.default_rng(0).choice(values, (2000, values.size)).mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return {
        "mean": float(values.mean()),
        "low": float(low),
        "high": float(high),
        "median": float(np.median(values)),
        "ninetieth": float(np.quantile(values, 0.9)),
        "best": float((values < 1e-9).mean()),
    }


if __name__ == "__main__":
    cyclopts.run(main)
