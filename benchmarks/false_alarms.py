"""How often the referee sees a difference where there is none: many races of a baseline against itself.

    python benchmarks/false_alarms.py [--races 1000] [--steps 40] [--seeds 8] [--jobs 2] [--folder DIR] [--out FILE]

Every race is a whole one through the real referee on `quadratic`: tuning, targets, racing and the A/A arm, which is the
tuned baseline on other seeds. Counted is how often the A/A arm would have been called faster or slower. At most 5 % are
promised, so the interval should not lie above 0.05. With --folder the races are kept and a second start goes on with
those that are missing; without it they live in a temporary folder. --out writes the figures, with the command and
the versions, as one JSON file; the one of the present race rules is in evidence/rules.

Printed beside it: alarms when the same runs are judged by the final value, and when they are judged after every seed.
The other rate uses the same runs once more: in race i, the racing runs of the next two races that tuned to the same
settings take the part of two contenders that are in truth the baseline, with the correction for two, just as real
contenders are judged. Its share counts races with at least one false verdict. Races that lend their runs to each other
are not quite independent, so its interval is a little too narrow.
"""

from __future__ import annotations

import contextlib
import itertools
import json
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
from sooner.race.engines.processes import Processes
from sooner.race.limits import ALPHA, RULES
from sooner.race.plan import Plan
from sooner.race.referee import run
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
    with Processes(jobs) as pool:
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


def every_seed(result: Result) -> float:
    """Return the p-value of the A/A arm at the primary target, had the race been judged after every seed."""
    again = steps_to_target(result, result["a/a_curves"])
    baseline = steps_to_target(result, result["contenders"][0]["curves"])
    return statistics.betting_p(statistics.paired_log_ratios(again, baseline))


def final_p(result: Result, every: bool = False) -> float:
    """Return the p-value of the A/A arm's final value at equal budget, once or after every seed."""
    again, baseline = (
        [c["values"][-1] for c in curves] for curves in (result["a/a_curves"], result["contenders"][0]["curves"])
    )
    return statistics.difference_summary(again, baseline, every_seed=every)["p"]


def share(alarms: int, of: int) -> dict[str, Any]:
    """Return a count and its share with the exact (Clopper-Pearson) 95 % interval."""
    interval = binomtest(alarms, of).proportion_ci(method="exact")
    return {"alarms": alarms, "of": of, "share": alarms / of, "low": float(interval.low), "high": float(interval.high)}


def rate(alarms: int, of: int) -> str:
    """Return a share with its exact (Clopper-Pearson) 95 % interval."""
    found = share(alarms, of)
    return f"{alarms} of {of} = {found['share']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def figures(results: Sequence[Result]) -> dict[str, Any]:
    """Return the rates of alarms, as plain numbers."""
    of, pairs = len(results), two_contenders(results)
    found = {
        "verdict": share(sum(r["noise_floor"]["verdict"] in ALARMS for r in results), of),
        "p at the target": share(sum(r["noise_floor"]["p"] <= ALPHA for r in results), of),
        "p at the target, judged after every seed": share(sum(every_seed(r) <= ALPHA for r in results), of),
        "p of the final value": share(sum(final_p(r) <= ALPHA for r in results), of),
        "p of the final value, judged after every seed": share(sum(final_p(r, True) <= ALPHA for r in results), of),
    }
    if pairs:
        found["any of two null contenders"] = share(sum(any(w in ALARMS for w in pair) for pair in pairs), len(pairs))
    return found


def report(results: Sequence[Result]) -> None:
    """Print the rates, and what is needed to see whether the races were real tests."""
    floors = [result["noise_floor"] for result in results]
    for name, found in figures(results).items():
        print(f"false alarms, {name}: {rate(found['alarms'], found['of'])}")
    words = Counter(floor["verdict"] for floor in floors)
    print(f"verdicts on the A/A arm: {', '.join(f'{word} {count}' for word, count in words.most_common())}")
    each = Counter(itertools.chain.from_iterable(two_contenders(results)))
    if each:
        print(f"verdicts on two null contenders: {', '.join(f'{word} {count}' for word, count in each.most_common())}")
    print(f"A/A runs that reach the target: {rate(sum(f['hits'] for f in floors), sum(f['of'] for f in floors))}")
    missing = sum(result["targets"][result["primary_target"]] is None for result in results)
    settings = Counter(result["contenders"][0]["tuned_recipe"] for result in results)
    print(f"races without a target: {missing}; tuned to: {', '.join(f'{t} {c}' for t, c in settings.most_common())}")


def main(
    *,
    races: int = 1000,
    steps: int = 40,
    seeds: int = 8,
    jobs: int = os.cpu_count() or 1,
    folder: Path | None = None,
    out: Path | None = None,
) -> None:
    started, results = time.monotonic(), []
    with contextlib.nullcontext(folder) if folder else tempfile.TemporaryDirectory() as place:
        for result in results_of(races, steps, seeds, jobs, Path(place)):
            results.append(result)
            if len(results) % 20 == 0:
                print(f"{len(results)} races, {time.monotonic() - started:.0f} s", flush=True)
    report(results)
    if out is not None:
        kept = {
            "command": f"python benchmarks/false_alarms.py --races {races} --steps {steps} --seeds {seeds}",
            "rules": RULES,
            "task": "quadratic",
            "recipe": RECIPE,
            "versions": results[0]["versions"],
            "processor": results[0]["machine"]["processor"],
            "finished": results[-1]["finished"],
            "promised": ALPHA,
            "false alarms": figures(results),
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    cyclopts.run(main)
