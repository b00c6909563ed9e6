"""What raced: one comparison per race and seed, from every race on disk and all published evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sooner.claims import _evidence
from sooner.error import SoonerError
from sooner.race.journal import FILE, read
from sooner.recipe.text import parse


@dataclass(frozen=True)
class Comparison:
    """One racing seed of one race.

    Attributes:
        workload: name of the task.
        setting: what else must agree for two runs to be comparable, such as the budget and the target.
        seed: the racing seed.
        steps: steps to the middle target by recipe, None for a miss.
        race: the command that races others under the same conditions, without its recipes.
    """

    workload: str
    setting: str
    seed: int
    steps: Mapping[str, float | None]
    race: str = ""


@dataclass(frozen=True)
class Collected:
    """What raced.

    Attributes:
        comparisons: one per race and seed.
        variants: recipes of claims that are no contenders of their own; they are in no comparison.
    """

    comparisons: list[Comparison]
    variants: list[str]


def collect(folders: Iterable[Path], published: bool = True) -> Collected:
    """Return the comparisons of every finished race below the folders, and of the published evidence.

    Races of one task, budget and target share a ranking: contenders that raced the same baseline meet in it.

    Raises:
        SoonerError: published evidence is damaged.
    """
    found = [one for folder in folders for one in _results(folder)]
    results, claimed = [result for result, _ in found], [claims for _, claims in found]
    if published:
        for name in _evidence.published():
            evidence = _evidence.find(name)
            results += [f for f in evidence.findings.values() if "contenders" in f] if evidence else []
    claimed += [True] * (len(results) - len(claimed))
    own = {row["recipe"] for result, claim in zip(results, claimed, strict=True) if not claim for row in _raced(result)}
    every = {row["recipe"] for result in results for row in _raced(result)}
    left = variants(every) - own
    merged: dict[tuple[str, str, int], dict[str, float | None]] = {}
    races: dict[tuple[str, str, int], str] = {}
    for result in results:
        task, target = result["task"], result["targets"].get("middle")
        if target is None:
            continue
        setting = f"{result['regime']}, {task['steps']} steps, {task['fingerprint']}, target {target:.6g}"
        for row in _raced(result):
            if row["recipe"] in left:
                continue
            for seed, steps in zip(result["seeds"]["racing"], row["targets"]["middle"]["steps"], strict=False):
                merged.setdefault((task["name"], setting, seed), {})[row["recipe"]] = steps
                races[task["name"], setting, seed] = _command(result)
    made = [Comparison(*key, steps, races[key]) for key, steps in merged.items() if len(steps) > 1]
    return Collected(made, sorted(left))


def variants(recipes: Iterable[str]) -> set[str]:
    """Return the recipes that fix more settings than another one of the same parts, or hold a class of a claim."""
    read = {recipe: parse(recipe) for recipe in recipes}
    fixed = {
        recipe: {(k, *one) for k, call in enumerate(calls) for one in call.settings.items()}
        for recipe, calls in read.items()
    }
    of_claims = {r for r, calls in read.items() if any(call.name.startswith("sooner.claims.") for call in calls)}
    parts: dict[tuple[str, ...], list[str]] = {}
    for recipe, calls in read.items():
        parts.setdefault(tuple(call.name for call in calls), []).append(recipe)
    more = {
        recipe
        for same in parts.values()
        for recipe in same
        if any(all(x in fixed[recipe] for x in fixed[other]) and fixed[other] != fixed[recipe] for other in same)
    }
    return of_claims | more


def _raced(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [row for row in result["contenders"] if row["status"] == "raced"]


def _command(result: Mapping[str, Any]) -> str:
    """Return the command, without recipes, of a race under the conditions of this one."""
    task = result["task"]
    many = any(row.get("communication") for row in result["contenders"])
    workers = result.get("workers", 1)
    crew = f" --workers {workers}" if workers > 1 else " --workers ..." if many else ""
    regime = " --regime budgeted" if result["regime"] == "budgeted" else ""
    return f"sooner race {task['spec'] or task['name']} --steps {task['steps']}{regime}{crew}"


def _results(folder: Path) -> Iterable[tuple[dict[str, Any], bool]]:
    """Yield the result of every finished race, and whether a claim made it: its races lie beside its evidence."""
    for path in sorted(folder.rglob(FILE)):
        try:
            result = read(path.parent).find("result", "result")
        except SoonerError:
            continue  # another journal, or a damaged one, which `sooner show` explains
        if result is not None:
            yield result, any(path.parents[2].glob("*/evidence.jsonl"))
