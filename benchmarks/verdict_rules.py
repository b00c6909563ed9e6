"""What the rules of verdicts promise and cost, on races that are drawn instead of run.

    python benchmarks/verdict_rules.py floor [--races 2000] [--out FILE]    does the A/A interval pay as a hurdle?
    python benchmarks/verdict_rules.py looks [--races 2000] [--out FILE]    alarms and power of the ways of looking
    python benchmarks/verdict_rules.py cover [--races 2000] [--out FILE]    do intervals after every seed cover?
    python benchmarks/verdict_rules.py plan [--pilots 100] [--out FILE]     do races find what --power promised?

A race is drawn as logarithms of steps to the target: a part that contender and baseline share on a seed (`shared` is
its share of the variance, the correlation of the pair), a part of their own, and an effect. The A/A arm is drawn on
other seeds, as in a race. Noise is normal, skewed or has Student's tails with 2 degrees of freedom; `misses` is the
share of runs that do not arrive. Nothing here trains; `false_alarms.py` does.

`floor` asks of significant results whether the ratio also lies outside the A/A interval, as version 1 of the race rules
did, and counts what that saves in false alarms and costs in power. Beside it stands the paired t-test at the level at
which it raises as few false alarms as the two hurdles together (sign flips of 8 seeds know only steps of 1/128): a
second hurdle pays if it finds more than one stricter hurdle.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, ttest_1samp

from sooner.race import statistics
from sooner.race.limits import ALPHA
from sooner.race.statistics.planning import Spread, seeds_for, spread_of_log_steps

Array = NDArray[np.float64]
Row = dict[str, Any]

app = cyclopts.App(help=__doc__, help_format="plaintext")


@dataclass(frozen=True)
class Noise:
    """How runs of one recipe differ from seed to seed."""

    name: str
    tails: float = np.inf
    misses: float = 0.0
    skewed: bool = False

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """Return noise of about unit spread."""
        if self.skewed:
            return generator.exponential(1.0, shape) - 1.0
        if np.isfinite(self.tails):
            return generator.standard_t(self.tails, shape)
        return generator.standard_normal(shape)


NOISES = (Noise("normal"), Noise("heavy tails", tails=2.0), Noise("skewed", skewed=True), Noise("misses", misses=0.2))


def drawn(
    noise: Noise, shared: float, effect: float, races: int, seeds: int, generator: np.random.Generator, sd: float
) -> tuple[Array, Array, Array]:
    """Return logarithms of steps, [races, seeds], of contender, baseline and A/A arm; infinite for a miss."""
    common = noise.draw(generator, (races, seeds))
    own = [noise.draw(generator, (races, seeds)) for _ in range(2)]
    new, base = (sd * (np.sqrt(shared) * common + np.sqrt(1 - shared) * one) for one in own)
    again = sd * noise.draw(generator, (races, seeds))
    arms = [new + effect, base, again]
    if noise.misses:
        bar = np.quantile(base, 1 - noise.misses)  # what is slower than that does not arrive in time
        arms = [np.where(arm > bar, np.inf, arm) for arm in arms]
    return arms[0], arms[1], arms[2]


def differences(new: Array, base: Array) -> Array:
    """Return paired log ratios; NaN where neither arrives."""
    with np.errstate(invalid="ignore"):
        return new - base


def interval_of(count: int, of: int) -> list[float]:
    """Return a share and its exact 95 % interval."""
    found = binomtest(count, of).proportion_ci(method="exact")
    return [round(count / of, 4), round(float(found.low), 4), round(float(found.high), 4)]


def inside(paired: Array, floor: Array) -> bool:
    """Say whether the ratio lies in the A/A interval, stretched to hold no difference."""
    low, high = statistics.interval(floor)
    return min(0.0, low) <= statistics.center(paired) <= max(0.0, high)


@app.command
def floor(races: int = 2000, seeds: int = 8, out: Path | None = None) -> None:
    """Does the A/A interval pay as a second hurdle?"""
    rows: list[Row] = []
    for noise in NOISES:
        for shared in (0.0, 0.5, 0.9):
            generator = np.random.default_rng(4)
            null = _hurdles(noise, shared, 0.0, races, seeds, generator)
            stricter = _level(null["t"], null["both"])
            row: Row = {
                "noise": noise.name,
                "shared": shared,
                "false alarms, test": interval_of(null["plain"], races),
                "false alarms, test and floor": interval_of(null["both"], races),
                "as strict a level": stricter,
            }
            for effect in (0.95, 0.9, 0.8, 0.7):
                found = _hurdles(noise, shared, float(np.log(effect)), races // 4, seeds, generator)
                strict = float(np.mean(np.array(found["t"]) <= stricter))
                shares = [found["plain"] / (races // 4), found["both"] / (races // 4), strict]
                row[f"power at {effect}: test, test and floor, stricter test"] = [round(x, 3) for x in shares]
            rows.append(row)
            print(json.dumps(row), flush=True)
    _keep(rows, f"floor --races {races} --seeds {seeds}", out)


def _hurdles(noise: Noise, shared: float, effect: float, races: int, seeds: int, generator: Any) -> Row:
    new, base, again = drawn(noise, shared, effect, races, seeds, generator, sd=0.12)
    paired, floors = differences(new, base), differences(again, base)
    ps = [statistics.sign_flip(one) for one in paired]
    significant = [i for i, p in enumerate(ps) if p <= ALPHA]
    kept = sum(not inside(paired[i], floors[i]) for i in significant)
    ts = [float(ttest_1samp(x, 0).pvalue) if np.isfinite(x).all() else p for x, p in zip(paired, ps, strict=True)]
    return {"t": ts, "plain": len(significant), "both": kept}


def _level(ps: list[float], alarms: int) -> float:
    """Return the highest level at which at most so many of these p-values of races without a difference are alarms."""
    known, counts = np.unique(ps, return_counts=True)
    below = known[np.cumsum(counts) <= alarms]
    return float(below[-1]) if below.size else 0.0


@app.command
def looks(races: int = 2000, until: int = 64, out: Path | None = None) -> None:
    """Alarms and power of the ways of looking; effects in standard deviations of a paired difference."""
    rows: list[Row] = []
    for noise in NOISES:
        for effect in (0.0, 0.5, 1.0, 1.5, 2.5):
            generator = np.random.default_rng(5)
            new, base, _ = drawn(noise, 0.0, -effect * np.sqrt(2), races, until, generator, sd=1.0)
            paired = differences(new, base)
            row: Row = {"noise": noise.name, "effect": effect}
            for declared in ((8,), (8, 16), (8, 16, 32)):
                some = paired[: races // 10] if declared[-1] > statistics.ENUMERATED else paired  # that test is slow
                found, used = _declared(some, declared)
                row[f"looks {','.join(map(str, declared))}"] = [interval_of(int(found.sum()), len(some)), _mean(used)]
            for last in (8, 16, 32, until):
                found, used = _every(paired, last)
                row[f"every seed until {last}"] = [interval_of(int(found.sum()), races), _mean(used)]
            found, used = _peeking(paired, 14)
            row["sign flips after every seed until 14, uncorrected"] = [
                interval_of(int(found.sum()), races),
                _mean(used),
            ]
            rows.append(row)
            print(json.dumps(row), flush=True)
    _keep(rows, f"looks --races {races} --until {until}", out)


def _declared(paired: Array, declared: tuple[int, ...]) -> tuple[Array, Array]:
    found, used = np.zeros(len(paired), dtype=bool), np.full(len(paired), declared[-1])
    for look in declared:
        for i in np.flatnonzero(~found):
            if statistics.sign_flip(paired[i, :look]) <= ALPHA / len(declared):
                found[i], used[i] = True, look
    return found, used


def _every(paired: Array, last: int) -> tuple[Array, Array]:
    rich = statistics.wealth(paired[:, :last]) >= 1 / ALPHA
    return rich.any(axis=1), np.where(rich.any(axis=1), rich.argmax(axis=1) + 1, last)


def _peeking(paired: Array, last: int) -> tuple[Array, Array]:
    found, used = np.zeros(len(paired), dtype=bool), np.full(len(paired), last)
    for look in range(6, last + 1):  # what is forbidden
        for i in np.flatnonzero(~found):
            if statistics.sign_flip(paired[i, :look]) <= ALPHA:
                found[i], used[i] = True, look
    return found, used


@app.command
def cover(races: int = 2000, out: Path | None = None) -> None:
    """Do intervals after every seed hold the truth at all seeds from 6 to 200 at once, and how wide are they?"""
    rows: list[Row] = []
    for noise in NOISES:
        generator = np.random.default_rng(6)
        new, base, _ = drawn(noise, 0.0, 0.0, races, 200, generator, sd=1.0)
        refuted = statistics.wealth(differences(new, base)) >= 1 / ALPHA
        row: Row = {
            "noise": noise.name,
            "misses truth somewhere from 6 to 200": interval_of(int(refuted.any(1).sum()), races),
        }
        for count in (8, 16, 32, 64, 200):
            widths = [
                [np.ptp(f(one)) for f in (statistics.interval, statistics.betting_interval)]
                for one in differences(new, base)[:40, :count]
            ]
            row[f"median width at {count} seeds: one look, every seed"] = [_mean(w) for w in np.median(widths, axis=0)]
        rows.append(row)
        print(json.dumps(row), flush=True)
    _keep(rows, f"cover --races {races}", out)


@app.command
def plan(pilots: int = 100, races: int = 40, out: Path | None = None) -> None:
    """Do races find the effect in as many cases as `sooner race --power 0.9` promised from a pilot of ten runs?"""
    rows: list[Row] = []
    for sd in (0.1, 0.2):
        for effect in (0.9, 0.8):
            for margin in (np.inf, 0.29):
                for every in (False, True):
                    row = _planned(sd, effect, margin, every, pilots, races)
                    rows.append(row)
                    print(json.dumps(row), flush=True)
    _keep(rows, f"plan --pilots {pilots} --races {races}", out)


def _planned(sd: float, effect: float, margin: float, every: bool, pilots: int, races: int) -> Row:
    generator, one = np.random.default_rng(7), sd / np.sqrt(2)
    test = statistics.betting_p if every else statistics.sign_flip
    found, asked, beyond = 0, [], 0
    for _ in range(pilots):
        runs = generator.normal(0, one, 10)
        arrived = runs[runs <= margin]
        mean, known = spread_of_log_steps(arrived, 10 - arrived.size, margin)
        seeds = seeds_for(Spread(np.sqrt(2) * known, 9, 0.0, margin - mean), effect, 0.9, ALPHA, every)
        if seeds is None:
            beyond += 1
            continue
        asked.append(seeds)
        sides = generator.normal(0, one, (2, races, seeds))
        sides[0] += np.log(effect)
        late = np.where(sides > margin, np.inf, sides)
        pairs = differences(late[0], late[1])
        found += sum(test(x) <= ALPHA and statistics.center(x) < 0 for x in pairs)
    return {
        "sd of a paired log ratio": sd,
        "effect": effect,
        "log of budget over steps": None if np.isinf(margin) else margin,
        "judged": "after every seed" if every else "once",
        "seeds asked for, quarters": [int(q) for q in np.quantile(asked, [0.25, 0.5, 0.75])] if asked else None,
        "pilots that asked for more than 200": beyond,
        "found, of 0.9 promised": interval_of(found, len(asked) * races) if asked else None,
    }


def _mean(values: Any) -> float | None:
    mean = float(np.mean(values))
    return round(mean, 3) if np.isfinite(mean) else None


def _keep(rows: list[Row], command: str, out: Path | None) -> None:
    if out is not None:
        kept = {
            "command": f"python benchmarks/verdict_rules.py {command}",
            "cpu_seconds": round(time.process_time(), 1),
        }
        out.write_text(json.dumps({**kept, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app()
