"""Is what `sooner forecast when` says true? Public runs, known up to half of their steps, and losses beyond that.

python benchmarks/when_reached.py [FOLDER]

FOLDER holds the public curves (default ../shared/data/curves); what is absent is skipped. The targets are the losses at
60, 75 and 90 % of the steps, which are reached, and one that is 0.5 % below the lowest, which is not. Printed per set:
the Brier score of the chance, beside that of saying the share that was reached; how many of the steps lie in their 90 %
intervals; and what the advice loses against knowing the outcome, beside always going on and always stopping, where the
target is worth half, once and twice what is left of the run.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _forecast_curves import FEWEST, PEAK, STEP_HINTS, WARMUP
from _forecast_rows import opened
from rich.console import Console
from rich.table import Table as Grid

from sooner.forecast.curve import forecast_curve
from sooner.forecast.decide.when import When, when
from sooner.forecast.read import read
from sooner.forecast.schedules import Schedule, parse
from sooner.forecast.table import FloatArray, table

SHARES = (0.6, 0.75, 0.9)
BEYOND = 0.995
WORTHS = (0.5, 1.0, 2.0)


def curves(folder: Path) -> Iterator[tuple[str, FloatArray, FloatArray, Schedule | None]]:
    """Yield (set, step, loss, schedule) of every run."""
    for size in (25, 100, 400):
        for file in sorted((folder / f"mpl_lr_schedules/csv_{size}").glob("cosine*.csv")):
            rows = read([file])
            total = rows["step"].max()
            peak = float(rows["lr"].max())
            schedule = parse(f"cosine:peak={peak},warmup=0,total={total},end={float(rows['lr'][-1])}")
            yield "cosine, lr known", rows["step"], rows["loss"], schedule
    runs: dict[tuple[str, str], set[tuple[float, float]]] = {}
    path = folder / "algoperf_baselines/eval_curves.csv.gz"
    for row in opened(path) if path.exists() else ():
        if row["ruleset"] == "self_tuning" and row["val_loss"]:
            key = (row["workload"], f"{row['study']}/{row['trial']}")
            runs.setdefault(key, set()).add((float(row["step"]), float(row["val_loss"])))
    for (workload, _), points in sorted(runs.items()):
        step, loss = np.array(sorted(points)).T
        if (steps := STEP_HINTS.get(workload)) is not None:
            schedule = parse(f"cosine:peak={PEAK},warmup={WARMUP * steps},total={steps}")
            yield "AlgoPerf, lr known", step, loss, schedule
        yield "AlgoPerf, lr not given", step, loss, None
    speed: dict[str, set[tuple[float, float]]] = {}
    path = folder / "modded_nanogpt/track12_curves.csv.gz"
    for row in opened(path) if path.exists() else ():
        if row["kind"] == "val":
            speed.setdefault(row["run"], set()).add((float(row["step"]), float(row["loss"])))
    for points in dict.fromkeys(map(frozenset, speed.values())):  # some logs are filed twice
        step, loss = np.array(sorted(points)).T
        yield "modded-nanogpt, lr not given", step, loss, None


def asked(step: FloatArray, loss: FloatArray, schedule: Schedule | None) -> list[tuple[When, float]]:
    """Return what was said of each target of a run, and the step at which it was reached, inf for never."""
    good = np.isfinite(loss) & (step > 0)
    step, loss = step[good], loss[good]
    half = step <= step[-1] / 2
    if half.sum() < FEWEST:
        return []
    rates: dict[str, FloatArray] = {} if schedule is None else {"lr": schedule.lr(step[half])}
    known = table("run", step=step[half], loss=loss[half], **rates)
    made = forecast_curve(known, schedule=schedule, total=float(step[-1]), draws=50)
    later = step > step[half][-1]
    targets = [float(np.interp(share * step[-1], step, loss)) for share in SHARES] + [BEYOND * float(loss.min())]
    found = []
    for target in targets:
        if target >= loss[half].min():
            continue  # reached before the end of what is known: nothing to say
        at = np.flatnonzero(later & (loss <= target))
        found.append((when(made, known, target), float(step[at[0]]) if at.size else np.inf))
    return found


def lost(one: When, reached: float, worth: float, go: bool) -> float:
    """Return what a choice lost against knowing the outcome, in shares of what is left of the run."""
    left = one.total - one.now
    gained = worth * left - (reached - one.now) if np.isfinite(reached) else -left
    return float(max(gained, 0.0) - (gained if go else 0.0)) / left


def main() -> None:
    """Print the table."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "../shared/data/curves")
    sets: dict[str, list[tuple[When, float]]] = {}
    for name, step, loss, schedule in curves(folder):
        sets.setdefault(name, []).extend(asked(step, loss, schedule))
    if not sets:
        print(f"no public curves in {folder}: nothing to measure")
        return
    grid = Grid(
        "set", "targets", "reached", "Brier", "of the share", "steps in 90 %", "advice", "go on", "stop", box=None
    )
    everything = [one for some in sets.values() for one in some]
    for name, some in [*sets.items(), ("all", everything)]:
        if not some:
            continue
        happened = np.array([np.isfinite(reached) for _, reached in some])
        said = np.array([one.chance for one, _ in some])
        inside = [one.steps[0] <= reached <= one.steps[2] for one, reached in some if np.isfinite(reached)]
        losses = [
            (
                lost(one, reached, worth, one.choose(worth * (one.total - one.now)).go),
                *(lost(one, reached, worth, go) for go in (True, False)),
            )
            for one, reached in some
            for worth in WORTHS
        ]
        advice, going, stopping = np.mean(losses, axis=0)
        grid.add_row(
            name,
            str(len(some)),
            f"{happened.mean():.0%}",
            f"{np.mean((said - happened) ** 2):.3f}",
            f"{happened.mean() * (1 - happened.mean()):.3f}",
            f"{np.mean(inside):.0%}" if inside else "-",
            *(f"{value:.3f}" for value in (advice, going, stopping)),
        )
    Console(highlight=False, width=140).print(grid)


if __name__ == "__main__":
    main()
