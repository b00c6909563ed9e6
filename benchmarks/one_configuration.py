"""How many steps one setting for everything needs, beside AdamW that is tuned on every workload.

    python benchmarks/one_configuration.py [--recipe recommended]... [--workloads charlm,digits] [--seeds 4]
        [--series 0] [--journal runs.jsonl] [--out FILE.json]

The target of a workload is what AdamW with linear decay reaches at the end of the budget, in the mean over seeds of its
own; its learning rate is the best of a grid on a tuning seed, widened while the best one is at an edge. A recipe is
measured on the seeds by the steps that it takes to get there, as a share of the budget; the same recipe, as written, on
all workloads. What does not get there within the budget counts as 2x, and is told. Seeds of tuning, targets and
measurements differ. Every run is kept in the journal, so a stopped measurement goes on.

Held-back workloads are printed apart: no default was chosen on them. Choose a setting with ``--workloads`` of the
others and another ``--series`` of seeds, and judge it once on these.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cyclopts
import torch

import sooner
from sooner.task import Task
from sooner.workloads import HELD_BACK

CHOOSING = ("charlm", "digits", "digits_federated", "digits_flow", "languages", "modular", "zipf")
JUDGING = tuple(sorted(HELD_BACK))
GRID = (1e-3, 3e-3, 1e-2, 3e-2)
WIDER = (3e-4, 1e-1)
DECAYS: dict[str, tuple[float, ...]] = {"modular": (0.0, 1.0)}
"""Weight decays of the baseline that are tuned too: without any, `modular` is never learned."""
EVALUATIONS = 40
TUNING, TARGETS, MEASURED = 7_001, 7_101, 7_201
NOT_REACHED = 2.0


class Journal:
    """Values of the metric after evenly spaced shares of a run, each run made once."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path is not None and path.exists() else []
        self.runs = {tuple(one["key"]): one["values"] for one in map(json.loads, lines)}

    def values(self, task: Task, recipe: str, seed: int) -> list[float]:
        """Return the values of a run, from step 0 on; smaller is better."""
        key = (task.name, recipe, seed)
        if key not in self.runs:
            at = [round(i * task.steps / EVALUATIONS) for i in range(EVALUATIONS + 1)]
            run = sooner.train(task, recipe, seed, evaluate_at=at)
            self.runs[key] = run.values + [math.nan] * (EVALUATIONS + 1 - len(run.values))
            if self.path is not None:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"key": key, "values": self.runs[key]}) + "\n")
        return self.runs[key]


def tuned(task: Task, journal: Journal) -> str:
    """Return the baseline with the best setting of the grid."""

    def final(rate: float, decay: float) -> float:
        value = journal.values(task, baseline(rate, decay), TUNING)[-1]
        return value if math.isfinite(value) else math.inf

    decays = DECAYS.get(task.name, (0.0,))
    found = {(rate, decay): final(rate, decay) for rate in GRID for decay in decays}
    best = min(found, key=found.__getitem__)
    for edge, beyond in ((min(GRID), min(WIDER)), (max(GRID), max(WIDER))):
        if best[0] == edge:
            found[beyond, best[1]] = final(beyond, best[1])
    return baseline(*min(found, key=found.__getitem__))


def baseline(rate: float, decay: float) -> str:
    """Return AdamW with linear decay as a recipe."""
    settings = f"lr={rate}" + (f", weight_decay={decay}" if decay else "")
    return f"adamw({settings}) + linear"


def share(values: list[float], target: float) -> float:
    """Return the share of the budget after which the target is first reached, between evaluations by a line."""
    before = math.inf
    for i, value in enumerate(values):
        if value <= target:
            part = (before - target) / (before - value) if math.isfinite(before) and before > value else 1.0
            return max(i - 1 + part, 1e-9) / (len(values) - 1)
        before = value
    return NOT_REACHED


def measured(task: Task, recipes: list[str], seeds: range, journal: Journal) -> Iterator[dict[str, Any]]:
    """Yield what each recipe needs on a workload."""
    against = tuned(task, journal)
    ends = [journal.values(task, against, TARGETS + i)[-1] for i in range(len(seeds))]
    target = statistics.fmean(ends)
    for recipe in recipes:
        shares = [share(journal.values(task, recipe, seed), target) for seed in seeds]
        mean = math.exp(statistics.fmean(map(math.log, shares)))
        missed = sum(s == NOT_REACHED for s in shares)
        yield {
            "workload": task.name, "recipe": recipe, "baseline": against, "target": target,
            "shares": shares, "mean": mean, "missed": missed,
        }  # fmt: skip


def geometric(rows: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Return the geometric mean over workloads and a 95 % interval by Student's t over them."""
    from scipy import stats

    logs = [math.log(row["mean"]) for row in rows]
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return math.exp(mean), math.nan, math.nan
    half = float(stats.t.ppf(0.975, len(logs) - 1)) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def main(
    *,
    recipe: tuple[str, ...] = ("recommended",),
    workloads: str = ",".join((*CHOOSING, *JUDGING)),
    seeds: int = 4,
    series: int = 0,
    journal: Path | None = None,
    out: Path | None = None,
) -> None:
    """Print the share of tuned AdamW's steps that every recipe needs, worst workload first."""
    torch.set_num_threads(1)
    kept = Journal(journal)
    rows = []
    first = MEASURED + 1000 * series
    for name in workloads.split(","):
        for row in measured(sooner.workload(name), list(recipe), range(first, first + seeds), kept):
            rows.append(row)
            print(f"  {row['mean']:5.2f}x  {name:18s} {row['recipe']}", flush=True)
    for one in recipe:
        own = sorted((row for row in rows if row["recipe"] == one), key=lambda row: -row["mean"])
        print(f"\n{one}: share of the steps of AdamW with linear decay, tuned on every workload, {seeds} seeds each")
        for row in own:
            missed = f"  ({row['missed']} of {seeds} not within the budget)" if row["missed"] else ""
            print(f"  {row['mean']:5.2f}x  {row['workload']:18s} {row['baseline']}{missed}")
        for title, chosen in (("where it was chosen", CHOOSING), ("held back", JUDGING), ("all", CHOOSING + JUDGING)):
            some = [row for row in own if row["workload"] in chosen]
            if some:
                mean, low, high = geometric(some)
                print(f"  geometric mean, {title}: {mean:.2f}x [{low:.2f}, {high:.2f}] over {len(some)} workloads")
    if out is not None:
        out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    cyclopts.run(main)
