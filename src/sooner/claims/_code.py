"""Which code a claim speaks of: the files whose change makes its evidence old."""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

import sooner
from sooner import part
from sooner.claims._claim import Claim, Criterion, Known, Measurement, Race
from sooner.race.source import digest
from sooner.recipe.text import parse, split
from sooner.task import Task, from_file
from sooner.workloads import find

_ROOT = Path(sooner.__file__).parent
_FOLLOWED = ("claims", "lab", "workloads", *part.STATIONS)
"""Folders whose files are followed from import to import. What all parts rest on is held by the tests instead."""


def code_of(claim: Claim) -> dict[str, str]:
    """Return ``{file: digest}`` of the claim's own file, its tasks, its parts, and what these import of their stations.

    The foundation under every part (executors, recipe, race) is not among them: its tests hold it, and the version of
    the race rules is part of the evidence.
    """
    files = [_ROOT / "claims" / f"{claim.part}.py"]
    if claim.part in part.names():
        files.append(_ROOT / part.names()[claim.part] / f"{claim.part}.py")
    return code_behind(files, claim.experiments.values())


def code_behind(files: Iterable[Path], experiments: Iterable[Race | Measurement]) -> dict[str, str]:
    """Return ``{file: digest}`` of these files and those of the experiments, and of what they import of their stations.

    Races name their task and their parts.
    """
    found: dict[str, str] = {}
    waiting = list(files)
    for experiment in experiments:
        if isinstance(experiment, Race):
            waiting += _files_of(experiment)
    while waiting:
        file = waiting.pop()
        name = file.relative_to(_ROOT).as_posix()
        if name not in found:
            source = file.read_text(encoding="utf-8")
            found[name] = digest(source)
            waiting += _imported(source, file)
    return dict(sorted(found.items()))


def declared(claim: Claim) -> str:
    """Return a digest of what a claim fixes before it is run: experiments, criteria and controls."""
    return digest_of(claim.experiments, claim.criteria, claim.known)


def digest_of(
    experiments: Mapping[str, Race | Measurement], criteria: Iterable[Criterion], known: Iterable[Known] = ()
) -> str:
    """Return a digest of experiments and of what decides on them.

    Which series of seeds is raced is not among it: another series is the same claim.
    """
    described = {
        name: {**asdict(one), "series": 0} if isinstance(one, Race) else [dict(case) for case in one.cases]
        for name, one in experiments.items()
    }
    fields = ("says", "at_most", "at_least", "gain", "control", "positive", "effect")
    decide = [{name: getattr(c, name) for name in fields} | {"covers": [*c.covers]} for c in criteria]
    text = json.dumps([described, decide, [asdict(one) for one in known]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def task_file(name: str) -> Path | None:
    """Return the file of a task that only claims use, None where `name` is no such task."""
    file = _ROOT / "claims" / "tasks" / f"{name}.py"
    return file if file.is_file() else None


def task_of(race: Race) -> Task:
    """Return the task of a race: one of `claims/tasks`, or a bundled workload."""
    file = task_file(race.task)
    return (from_file(file) if file else find(race.task)).at(race.size)


def _files_of(race: Race) -> list[Path]:
    files = [task_file(race.task) or _ROOT / "workloads" / f"{race.task}.py"]
    for recipe in split(race.recipes):
        for call in parse(recipe):
            station = part.names().get(call.name)
            if station:
                files.append(_ROOT / station / f"{call.name}.py")
    return files


@functools.lru_cache(maxsize=2048)
def _imported(source: str, file: Path) -> tuple[Path, ...]:
    """Return the files that the followed imports of a source name; `_claim` and its like serve every claim alike."""
    return tuple(_followed(source, file))


def _followed(source: str, file: Path) -> Iterable[Path]:
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ImportFrom) or not node.module or not node.module.startswith("sooner."):
            continue
        _, folder, *rest = node.module.split(".")
        if folder not in _FOLLOWED:
            continue
        for name in [".".join(rest)] if rest else [alias.name for alias in node.names]:
            path = _ROOT.joinpath(folder, *name.split(".")).with_suffix(".py")
            serves_all = path.stem in ("_claim", "_findings", "_measured", "_truth") and folder in ("claims", "lab")
            if path.is_file() and path != file and not serves_all:
                yield path
