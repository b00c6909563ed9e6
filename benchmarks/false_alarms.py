"""How often the referee sees a difference where there is none: many races of a baseline against itself.

    python benchmarks/false_alarms.py [--races 200] [--steps 100] [--seeds 8] [--jobs 2] [--folder DIR]

Every race is a whole one through the real referee on `quadratic`: tuning, targets, racing and the A/A arm, which is the
tuned baseline on other seeds. Counted is how often the A/A arm would have been called faster or slower. At most 5 % are
promised, so the interval should not lie above 0.05. With --folder the races are kept and a second start goes on with
those that are missing; without it they live in a temporary folder.

The second figure uses the same runs once more: in race i, the racing runs of the next two races that tuned to the same
settings take the part of two contenders that are in truth the baseline, with the correction for two and with the A/A
arm as noise floor, just as real contenders are judged. Its share counts races with at least one false verdict. Races
that lend their runs to each other are not quite independent, so its interval is a little too narrow.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cyclopts
from scipy.stats import binomtest

from sooner.race import statistics
from sooner.race.limits import ALPHA
from sooner.race.plan import Plan
from sooner.race.pool import Pool
from sooner.race.referee import WORKER, run
from sooner.race.targets import confirmed_crossing
from sooner.race.verdict import judge
from sooner.recipe import Recipe
from sooner.workloads import find

ALARMS = ("faster", "slower")
RECIPE = "sgd"

Result = dict[str, Any]


def results_of(count: int, steps: int, seeds: int, jobs: int, folder: Path) -> Iterator[Result]:
    """Run the races, or what is left of them, and yield their results."""
    task = find("quadratic")
    with Pool(jobs, WORKER) as pool:
        for number in range(count):
            plan = Plan(
                task,
                [Recipe(RECIPE)],
                looks=[seeds],
                steps=steps,
                series=number,
                jobs=jobs,
                measure_cost=False,
                out=folder / f"race-{number}-{steps}-steps-{seeds}-seeds",
            )
            yield run(plan, pool=pool)


def steps_to_target(result: Result, curves: Sequence[Result]) -> list[float | None]:
    """Return the steps that each run needs to the primary target of `result`."""
    target = result["targets"][result["primary_target"]]
    return [None if target is None else confirmed_crossing(c["steps"], c["values"], target) for c in curves]


def judge_strangers(result: Result, strangers: Sequence[Result]) -> list[str]:
    """Return what the referee would call the baselines of other races, were they contenders in this one."""
    baseline = steps_to_target(result, result["contenders"][0]["curves"])
    theirs = [steps_to_target(result, one["contenders"][0]["curves"]) for one in strangers]
    ratios = [statistics.ratio_summary(one, baseline) for one in theirs]
    words: list[str] = []
    for one, ratio, p in zip(theirs, ratios, statistics.holm([r["p"] for r in ratios]), strict=True):
        spread = statistics.spread(statistics.paired_log_ratios(one, baseline))
        word, _ = judge(
            ratio,
            p,
            baseline=RECIPE,
            baseline_hits=sum(s is not None for s in baseline),
            alpha=ALPHA,
            noise_floor=result["noise_floor"],
            smallest_effect=statistics.smallest_effect(spread, len(baseline), ALPHA / len(strangers)),
        )
        words.append(word)
    return words


def two_contenders(results: Sequence[Result]) -> list[list[str]]:
    """Return the two verdicts of every race that has two others with the same tuned settings to borrow from."""
    alike: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        alike[result["contenders"][0]["tuned_recipe"]].append(result)
    return [
        judge_strangers(group[i], [group[(i + 1) % len(group)], group[(i + 2) % len(group)]])
        for group in alike.values()
        if len(group) > 2
        for i in range(len(group))
    ]


def rate(alarms: int, of: int) -> str:
    """Return a share with its exact (Clopper-Pearson) 95 % interval."""
    interval = binomtest(alarms, of).proportion_ci(method="exact")
    return f"{alarms} of {of} = {alarms / of:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def report(results: Sequence[Result]) -> None:
    """Print both rates, and what is needed to see whether the races were real tests."""
    words = Counter(result["noise_floor"]["verdict"] for result in results)
    print(f"false alarms of the A/A arm: {rate(sum(words[word] for word in ALARMS), len(results))}")
    print(f"  verdicts: {', '.join(f'{word} {count}' for word, count in words.most_common())}")
    floors = [result["noise_floor"] for result in results]
    print(f"  p <= {ALPHA}: {rate(sum(floor['p'] <= ALPHA for floor in floors), len(floors))}")
    print(f"  A/A runs that reach the target: {rate(sum(f['hits'] for f in floors), sum(f['of'] for f in floors))}")
    missing = sum(result["targets"][result["primary_target"]] is None for result in results)
    settings = Counter(result["contenders"][0]["tuned_recipe"] for result in results)
    print(f"  races without a target: {missing}; tuned to: {', '.join(f'{t} {c}' for t, c in settings.most_common())}")
    pairs = two_contenders(results)
    if pairs:
        false = sum(any(word in ALARMS for word in pair) for pair in pairs)
        print(f"races with a false verdict on either of two null contenders: {rate(false, len(pairs))}")
        each = Counter(itertools.chain.from_iterable(pairs))
        print(f"  verdicts: {', '.join(f'{word} {count}' for word, count in each.most_common())}")


def main(
    *, races: int = 200, steps: int = 100, seeds: int = 8, jobs: int = os.cpu_count() or 1, folder: Path | None = None
) -> None:
    started, results = time.monotonic(), []
    with contextlib.nullcontext(folder) if folder else tempfile.TemporaryDirectory() as place:
        for result in results_of(races, steps, seeds, jobs, Path(place)):
            results.append(result)
            if len(results) % 20 == 0:
                print(f"{len(results)} races, {time.monotonic() - started:.0f} s", flush=True)
    report(results)


if __name__ == "__main__":
    cyclopts.run(main)
