"""Steps to a target: tuned on seeds of their own, raced on paired ones, simulated exactly, kept in a journal.

How many steps an arm needs does not depend on the link, so they are taken in a simulated cluster of two workers (the
`Sim` wire) in one process. Seconds are those steps times the seconds of a step, which were measured behind the link.
"""

import contextlib
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from _language_model import task

from sooner.cluster import train_cluster

WORKERS = 2
BATCHES = (2, 4, 8, 16, 32)
RATES = tuple(2.0**power for power in range(-4, 5))
"""Every arm climbs on the learning rates with the default batch, on the batches with the best rate, and once more on
the rates with the best batch, always from neighbor to neighbor while that saves seconds. Rates are over `START`."""

START = {"adamw": 2.5e-4, "muon": 0.02}
BATCH = 8

TUNING, TARGET, RACE = 100, 200, 300
"""Where the seeds of tuning, target-setting and racing begin."""

FIRST = 150
"""The dense arm at its defaults after so many steps sets the level that tuning aims at."""

EVERY, EARLIEST, MOST = 10, 30, 800
PATIENCE = 1.5
"""A trial ends when it has taken this many times the seconds of the arm's best: it can't win any more."""


class _EnoughError(Exception):
    """The run has shown what was asked for."""


@dataclass(frozen=True)
class Setting:
    """One way to run an arm."""

    arm: str
    recipe: str
    batch: int
    lr: float

    @property
    def text(self) -> str:
        optimizer = self.recipe.partition(" ")[0]
        return self.recipe.replace(optimizer, f"{optimizer}(lr={self.lr!r})", 1)


class Journal:
    """Cells by key, appended to a file as they are finished."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.cells: dict[str, Any] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.endswith("}"):  # the last line of a killed run may be cut off
                    cell = json.loads(line)
                    self.cells[cell["key"]] = cell["value"]

    def keep(self, key: str, value: Any) -> Any:
        self.cells[key] = value
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps({"key": key, "value": value}))  # begins anew after a line that was cut off
        return value


def curve(setting: Setting, seed: int, stop: float, most: int) -> dict[str, Any]:
    """Return the evaluations of a run that ends when it has fallen to `stop`, or after `most` steps."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    steps: list[int] = [0]
    values: list[float] = [math.inf]

    def note(step: int, value: float) -> None:
        steps.append(step)
        values.append(value)
        if value <= stop or not math.isfinite(value):
            raise _EnoughError

    due = range(EARLIEST, most + EVERY, EVERY)
    whole = task(setting.batch, due[-1])
    with contextlib.suppress(_EnoughError):
        train_cluster(whole, setting.text, seed, due[-1], WORKERS, evaluate_at=due, progress=note)
    return {"steps": steps[1:], "values": values[1:]}


def crossing(found: Mapping[str, Sequence[float]], level: float) -> float:
    """Return the step at which a curve falls to a level, on straight lines between evaluations; inf for never."""
    before = None
    for step, value in zip(found["steps"], found["values"], strict=True):
        if value <= level:
            if before is None or not before[1] > value:
                return float(step)
            return before[0] + (step - before[0]) * (before[1] - level) / (before[1] - value)
        before = (step, value)
    return math.inf


def _key(kind: str, setting: Setting, seed: int, stop: float) -> str:
    return f"{kind} {setting.text} batch {setting.batch} seed {seed} to {stop:.4f}"


def _cell(arguments: tuple[Path, str, Setting, int, float, int]) -> dict[str, Any]:
    """Run one cell, unless its file is there: processes share a folder, not a journal in memory."""
    path, kind, setting, seed, stop, most = arguments
    journal = Journal(path)
    key = _key(kind, setting, seed, stop)
    if key in journal.cells:
        found: dict[str, Any] = journal.cells[key]
        if found["values"][-1] <= stop or found["steps"][-1] >= most:
            return found
    return journal.keep(key, curve(setting, seed, stop, most))


def climb(values: Sequence[float], start: float, cost: Callable[[float], float]) -> float:
    """Return the value of lowest cost that neighbors lead to; where nothing tells two apart, the first one tried."""
    at = values.index(start)
    lowest = cost(start)
    for direction in (1, -1):
        while 0 <= at + direction < len(values) and (found := cost(values[at + direction])) < lowest:
            at, lowest = at + direction, found
        if values[at] != start:
            break
    return values[at]


def tune(arguments: tuple[Path, str, str, float, dict[int, float], int]) -> dict[str, Any]:
    """Return an arm's setting with the fewest seconds to `level`: the better of its two best on two seeds."""
    path, arm, recipe, level, seconds, most = arguments
    tried: dict[Setting, float] = {}

    def cost(batch: int, lr: float) -> float:
        setting = Setting(arm, recipe, batch, lr)
        if setting not in tried:
            best = min(tried.values(), default=math.inf)
            limit = most if math.isinf(best) else max(EARLIEST, min(most, int(PATIENCE * best / seconds[batch])))
            tried[setting] = crossing(_cell((path, "tune", setting, TUNING, level, limit)), level) * seconds[batch]
        return tried[setting]

    batch, start = BATCH, START[recipe.partition(" ")[0]]
    rates = [start * rate for rate in RATES]
    lr = climb(rates, start, lambda value: cost(batch, value))
    batch = int(climb(BATCHES, batch, lambda value: cost(int(value), lr)))
    climb(rates, lr, lambda value: cost(batch, value))
    two = sorted(tried, key=lambda setting: tried[setting])[:2]
    best, both = tried[two[0]], {}
    for setting in two:
        limit = min(most, int(2 * PATIENCE * best / seconds[setting.batch]))
        again = crossing(_cell((path, "tune", setting, TUNING + 1, level, limit)), level) * seconds[setting.batch]
        both[setting] = math.sqrt(tried[setting] * again)
    chosen = min(two, key=lambda setting: both[setting])
    edge = chosen.lr in (rates[0], rates[-1]) or chosen.batch in (BATCHES[0], BATCHES[-1])
    return {"arm": arm, "batch": chosen.batch, "lr": chosen.lr, "seconds": best, "edge": edge, "trials": len(tried)}


def in_processes(call: Callable[[Any], Any], arguments: Sequence[Any], jobs: int) -> Iterator[Any]:
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(call, arguments)


def to_target(
    path: Path,
    arms: Mapping[str, str],
    seconds: Mapping[str, dict[int, float]],
    seeds: int,
    jobs: int,
    most: int = MOST,
) -> dict[str, Any]:
    """Tune every arm, let the tuned dense one set the target, and race all of them on paired seeds.

    Args:
        path: of the journal.
        arms: name -> recipe; "dense" is the baseline.
        seconds: of a step, by arm and batch, for the tuning.
        seeds: how many for the target, and how many for the race.
        jobs: processes.
        most: steps that a run may take.
    """
    default = Setting("dense", arms["dense"], BATCH, START["adamw"])
    first = _cell((path, "first", default, TUNING, -math.inf, FIRST))
    level = first["values"][-1]
    print(f"tuning aims at loss {level:.4f}: dense at its defaults after {first['steps'][-1]} steps", flush=True)
    tuned: dict[str, Setting] = {}
    jobs_of_tuning = [(path, arm, recipe, level, seconds[arm], most) for arm, recipe in arms.items()]
    for found in in_processes(tune, jobs_of_tuning, jobs):
        tuned[found["arm"]] = Setting(found["arm"], arms[found["arm"]], found["batch"], found["lr"])
        edge = "; at the edge of what was tried" if found["edge"] else ""
        print(
            f"tuned {found['arm']}: batch {found['batch']}, lr {found['lr']:g}, {found['trials']} trials{edge}",
            flush=True,
        )
    dense = tuned["dense"]
    budget = math.ceil(crossing(_cell((path, "tune", dense, TUNING, level, most)), level) / EVERY) * EVERY
    runs = [(path, "target", dense, TARGET + seed, -math.inf, budget) for seed in range(seeds)]
    reached = sorted(min(found["values"]) for found in in_processes(_cell, runs, jobs))
    target = reached[math.ceil(0.9 * seeds) - 1]
    print(f"target {target:.4f}: what 90 % of {seeds} runs of tuned dense reach within {budget} steps", flush=True)
    runs = [(path, "race", setting, RACE + seed, target, most) for seed in range(seeds) for setting in tuned.values()]
    steps: dict[str, list[float]] = {arm: [] for arm in arms}
    for run, found in zip(runs, in_processes(_cell, runs, jobs), strict=True):
        steps[run[2].arm].append(crossing(found, target))
    return {"target": target, "budget": budget, "tuned": tuned, "steps": steps}
