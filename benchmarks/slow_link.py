"""What slow links cost and what the communication station saves on them: two ranks, gloo, one thread each.

python benchmarks/slow_link.py                  # step times behind 100 and 20 Mbit/s and without a limit: 6 minutes
python benchmarks/slow_link.py --quick          # a few arms, one round: 2 minutes
python benchmarks/slow_link.py --to-target      # instead, seconds to the loss of tuned dense training: an hour or two

The same line, run again, goes on where it stopped: everything finished is in the folder's journal.
"""

import json
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np
from _slow_link_target import BATCH, BATCHES, Journal, Setting, to_target
from rich.console import Console
from rich.table import Table

from sooner.link import Lab, LinkModel, run
from sooner.link._network import BUCKET

EVERY = 10
ARMS = {
    "no communication": "adamw + silent",
    "dense": "adamw + dense",
    "torch DDP": "ddp",
    "fp16": "adamw + fp16",
    "powersgd r4": "adamw + powersgd(rank=4) + ef",
    "powersgd r1": "adamw + powersgd(rank=1) + ef",
    "top_k": "adamw + top_k(ratio=0.01) + ef",
    "dgc": "sgd(lr=0.1, momentum=0.0) + dgc",
    "local_sgd": f"adamw + local_sgd(every={EVERY})",
    "diloco fp16": f"adamw + diloco(every={EVERY}) + fp16",
    "local_sgd powersgd r4": f"adamw + local_sgd(every={EVERY}) + powersgd(rank=4) + ef",
    "diloco powersgd r4": f"adamw + diloco(every={EVERY}) + powersgd(rank=4) + ef",
}
RACED = {
    **{name: ARMS[name] for name in ("dense", "fp16")},
    "local_sgd int8": f"adamw + local_sgd(every={EVERY}) + int8",
    "muon dense": "muon + dense",
    "muon local_sgd int8": f"muon + local_sgd(every={EVERY}) + int8",
}
"""What races to the target. Low ranks make the shorter step but need a third more of them; muon with averaged gradients
is there so that nobody takes for communication what is the optimizer's."""
QUICK = ("no communication", "dense", "powersgd r4", "local_sgd powersgd r4")
LINKS = {"no limit": None, "100 Mbit/s": 100e6, "20 Mbit/s": 20e6}
SLOW, SLOWEST = "100 Mbit/s", "20 Mbit/s"
GOALS = {"vs dense": 8.0, "vs fp16": 5.0, "step at 20 Mbit/s": 24.0, "bytes": 6.0, SLOW: 5.0, SLOWEST: 15.0}


Medians = dict[str, dict[str, Any]]
"""By arm: seconds of a step, bytes on the interface and of the payload."""


def blocks(journal: Journal, link: str, arms: Mapping[str, dict[str, Any]], rounds: int, label: str) -> list[Any]:
    """Return timed blocks of all arms behind a link, from the journal where they are there."""
    key = f"{label} {link} {rounds} {json.dumps(arms, sort_keys=True)}"
    if key not in journal.cells:
        with tempfile.TemporaryDirectory() as folder:
            lines = Path(folder, "lines")
            ranks = Path(__file__).with_name("_slow_link_ranks.py")
            command = [sys.executable, str(ranks), json.dumps(arms), str(rounds), str(lines)]
            done = run(command, Lab(rate=LINKS[link]), echo="hide")
            if done.failure or not done.measured:
                raise SystemExit(f"{link}: {done.failure or f'there are no namespaces here ({done.refusal})'}")
            journal.keep(key, [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()])
    made: list[Any] = journal.cells[key]
    return made


def measured(
    journal: Journal, arms: Mapping[str, Mapping[str, dict[str, Any]]], rounds: int, passes: int, label: str
) -> dict[str, Medians]:
    """Return the medians per link and arm; the links take turns, and behind each of them the arms do."""
    found: dict[str, list[Any]] = {link: [] for link in arms}
    for number in range(passes):
        for link, by_arm in arms.items():
            found[link] += blocks(journal, link, by_arm, rounds, f"{label} {number}")
    medians: dict[str, Medians] = {}
    for link, lines in found.items():
        loads = sorted(line["load"] for line in lines)
        priority = "real-time" if all(line["real_time"] for line in lines) else "normal"
        print(f"{link}: {len(lines)} blocks, {priority} priority, load average {loads[0]:.1f} to {loads[-1]:.1f}")
        medians[link] = {arm: _medians([line for line in lines if line["arm"] == arm]) for arm in arms[link]}
    return medians


def _medians(lines: list[dict[str, Any]]) -> dict[str, Any]:
    middle = {what: statistics.median(line[what] for line in lines) for what in ("seconds", "sent")}
    return {**middle, "payload": lines[0]["payload"]}


def settings(recipe: str, batch: int, block: int) -> dict[str, Any]:
    """Return how the ranks run an arm; a block is whole windows."""
    return {"recipe": recipe, "batch": batch, "block": EVERY if "every=" in recipe else block}


def step_times(journal: Journal, names: Iterable[str], rounds: int, passes: int) -> dict[str, Medians]:
    """Print step times behind every link, beside what the link model makes of those without a limit."""
    steps = {"no limit": 5, SLOW: 3, SLOWEST: 1}
    arms = {link: {name: settings(ARMS[name], 8, steps[link]) for name in names} for link in LINKS}
    found = measured(journal, arms, rounds, passes, "steps")
    heads = [head for link in LINKS for head in (f"s, {link}", "of dense")]
    console, grid = Console(highlight=False, width=140), Table("a step", *heads, "MB sent", "payload", "over", box=None)
    errors: dict[str, dict[str, float]] = {SLOW: {}, SLOWEST: {}}
    headers = {}
    for name in names:
        cells = []
        for by_arm in found.values():
            cells += [f"{by_arm[name]['seconds']:.3f}", f"{by_arm[name]['seconds'] / by_arm['dense']['seconds']:.3f}"]
        sent, payload = found[SLOW][name]["sent"], found[SLOW][name]["payload"]
        if payload is None:  # DDP keeps no count
            payload = found[SLOW]["dense"]["payload"]
        if payload:
            headers[name] = sent / payload - 1
        for link, by_name in errors.items():
            own, model = found["no limit"][name]["seconds"], LinkModel(LINKS[link] or math.inf, bucket=BUCKET)
            pauses = 1 / EVERY if "every=" in ARMS[name] else 1
            by_name[name] = (own + model.seconds(payload, 0, pauses)) / found[link][name]["seconds"] - 1
        grid.add_row(name, *cells, f"{sent / 1e6:.3f}", f"{payload / 1e6:.3f}", f"{headers.get(name, 0):.1%}")
    console.print(grid)
    console.print()
    grid = Table("model / measured - 1", *errors, box=None)
    for name in names:
        grid.add_row(name, *(f"{by_name[name]:+.1%}" for by_name in errors.values()))
    console.print(grid)
    console.print()
    for link, by_name in errors.items():
        worst = max(by_name, key=lambda name: abs(by_name[name]))
        verdict(f"the model's largest error at {link}", 100 * abs(by_name[worst]), GOALS[link], "%", worst, most=True)
    worst = max(headers, key=lambda name: abs(headers[name]))
    verdict("interface bytes over payload", 100 * abs(headers[worst]), GOALS["bytes"], "%", worst, most=True)
    dense = found[SLOWEST]["dense"]["seconds"]
    best = min(
        (name for name in names if name not in ("no communication",)), key=lambda n: found[SLOWEST][n]["seconds"]
    )
    goal = GOALS["step at 20 Mbit/s"]
    verdict("a step at 20 Mbit/s, dense over the best", dense / found[SLOWEST][best]["seconds"], goal, "x", best)
    return found


def verdict(what: str, value: float, goal: float, unit: str, who: str, most: bool = False) -> None:
    met = value <= goal if most else value >= goal
    sign = "<=" if most else ">="
    print(f"{what}: {value:.3g} {unit} ({who}); goal {sign} {goal:g} {unit}: {'met' if met else 'MISSED'}", flush=True)


def seconds_by_batch(journal: Journal, raced: Iterable[str], rounds: int) -> dict[str, dict[int, float]]:
    """Return the seconds of a step behind the slow link by arm and batch; the batch changes nothing of what is sent."""
    own = {f"{b}": settings(ARMS["no communication"], b, 3) for b in BATCHES}
    found = measured(journal, {SLOW: own | {name: settings(RACED[name], BATCH, 3) for name in raced}}, rounds, 1, "own")
    alone = {b: found[SLOW][f"{b}"]["seconds"] for b in BATCHES}
    beside = {name: max(found[SLOW][name]["seconds"] - alone[BATCH], 0) for name in raced}
    return {name: {b: beside[name] + alone[b] for b in BATCHES} for name in raced}


def race(
    journal: Journal, path: Path, seconds: dict[str, dict[int, float]], seeds: int, jobs: int, rounds: int
) -> None:
    """Print the seconds to the target, and how much sooner every arm is there."""
    arms = {name: RACED[name] for name in seconds}
    made = to_target(path, arms, seconds, seeds, jobs)
    tuned: dict[str, Setting] = made["tuned"]
    wanted = {name: settings(one.text, one.batch, 3) for name, one in tuned.items()}
    step = measured(journal, {SLOW: wanted}, rounds, 2, "tuned")[SLOW]
    total = {name: np.array(made["steps"][name]) * step[name]["seconds"] for name in arms}
    print("steps to the target: simulated exactly with the Sim wire; a step: measured behind the link, interleaved")
    grid = Table(SLOW, "batch", "lr", "steps", "a step", "seconds", "sooner than dense", "than fp16", box=None)
    best = {}
    for name, one in tuned.items():
        ratios = {base: interval(total[base], total[name]) for base in ("dense", "fp16")}
        best[name] = ratios
        cells = [f"{r[0]:.2f}x [{r[1]:.2f}, {r[2]:.2f}]" for r in ratios.values()]
        shown = (
            f"{np.median(made['steps'][name]):.0f}",
            f"{step[name]['seconds']:.3f} s",
            f"{np.median(total[name]):.1f}",
        )
        grid.add_row(name, str(one.batch), f"{one.lr:g}", *shown, *cells)
    Console(highlight=False, width=140).print(grid)
    for base in ("dense", "fp16"):
        name = max(best, key=lambda n, base=base: best[n][base][0])
        verdict(f"sooner than tuned {base}, {seeds} paired seeds", best[name][base][0], GOALS[f"vs {base}"], "x", name)


def interval(base: np.ndarray, new: np.ndarray) -> tuple[float, float, float]:
    """Return the geometric mean of the paired ratios and its 95 % bootstrap interval; a miss makes it 0."""
    with np.errstate(divide="ignore"):
        logs = np.log(base / new)
    if not np.isfinite(logs).all():
        return 0.0, 0.0, 0.0
    drawn = np.random.default_rng(0).choice(logs, (9999, len(logs))).mean(1)
    return tuple(np.exp([logs.mean(), *np.quantile(drawn, (0.025, 0.975))]))  # type: ignore[return-value]


def main(
    *,
    quick: bool = False,
    to_target: bool = False,
    raced: str = "; ".join(RACED),
    rounds: int = 2,
    seeds: int = 6,
    jobs: int = os.cpu_count() or 1,
    folder: Path = Path("races/slow-link"),
) -> None:
    journal = Journal(folder / "journal.jsonl")
    if to_target:
        seconds = seconds_by_batch(journal, [name.strip() for name in raced.split(";")], rounds)
        race(journal, folder / "steps.jsonl", seconds, seeds, jobs, rounds)
    else:
        step_times(journal, QUICK if quick else ARMS, 1 if quick else rounds, 1 if quick else 2)


if __name__ == "__main__":
    cyclopts.run(main)
