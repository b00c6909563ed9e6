"""Running a claim: every experiment by its rules, cell by cell into journals, so that a stopped claim goes on."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sooner.claims import _evidence, _fingerprint
from sooner.claims._claim import Claim, Measurement, Race
from sooner.claims._code import code_of, task_file
from sooner.claims._evidence import Evidence
from sooner.claims._findings import shortened
from sooner.error import SoonerError
from sooner.race import referee
from sooner.race.journal import Journal
from sooner.race.limits import RULES
from sooner.race.machine import machine, now, processor, versions
from sooner.race.plan import Plan
from sooner.race.pool import Cell, Pool
from sooner.race.referee import Watch
from sooner.race.shelf import Shelf
from sooner.recipe import Recipe
from sooner.recipe.text import split
from sooner.task import Task, from_file
from sooner.workloads import find

WORKER = "sooner.claims._worker:run_cell"


def identity(claim: Claim) -> dict[str, Any]:
    """Return everything that decides what a claim finds."""
    return {
        "claim": claim.part,
        "rules": RULES,
        "code": code_of(claim),
        "experiments": {name: _described(one) for name, one in claim.experiments.items()},
        "versions": versions(),
        "processor": processor(),
    }


def folder_of(claim: Claim, out: Path) -> Path:
    """Return the folder of a claim's journal, named after its identity: other code gets another folder."""
    text = json.dumps(identity(claim), sort_keys=True)
    return out / f"{claim.part}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def run(
    claim: Claim, out: Path, *, jobs: int, command: str = "", watch: Watch | None = None, pool: Pool | None = None
) -> Evidence:
    """Run a claim, or what is left of it, and return its evidence, also written beside its journal.

    Args:
        claim: the claim.
        out: folder of all claims; races go into ``out/races``, where claims share what they have in common.
        jobs: worker processes.
        command: what to type to repeat it.
        watch: is told what happens.
        pool: workers to use; None starts `jobs` of them.

    Raises:
        SoonerError: an optional package is missing, a folder can't be used, the disk is full, or an experiment failed.
    """
    if claim.extra and importlib.util.find_spec(claim.extra) is None:
        raise SoonerError(
            f"the claim {claim.part} needs {claim.extra}, which is not installed: {_install(claim.extra)}"
        )
    watch = watch or Watch()
    folder = folder_of(claim, out)
    started = time.monotonic()
    provenance: dict[str, Any] = {
        "command": command,
        "rules": RULES,
        "versions": versions(),
        "machine": machine(),
        "started": now(),
    }
    with Journal.open(folder, identity(claim), {**provenance, "jobs": jobs}) as journal:
        done = journal.find("evidence", "evidence")
        if done is not None:
            return _evidence.read(folder / "evidence.jsonl")
        workers = pool or Pool(jobs, WORKER)
        try:
            findings = {
                name: _race(one, out, jobs, watch, workers)
                if isinstance(one, Race)
                else _measurement(claim, name, one, journal, watch, workers)
                for name, one in claim.experiments.items()
            }
            fingerprint = fingerprint_of(claim, findings, workers, watch, journal)
        finally:
            if pool is None:
                workers.close()
        sessions = [record.data for record in journal.sessions]
        minutes = round((time.monotonic() - started) / 60, 2) if len(sessions) == 1 else None  # pauses don't count
        provenance = {**provenance, "started": sessions[0]["started"], "finished": now(), "jobs": jobs}
        evidence = _evidence.make(
            claim, findings, code_of(claim), {**provenance, "minutes": minutes}, fingerprint
        )
        _evidence.write(evidence, folder / "evidence.jsonl")
        journal.append("evidence", "evidence", {"verdict": evidence.verdict})
    return evidence


def fingerprint_of(
    claim: Claim, findings: dict[str, dict[str, Any]], pool: Pool, watch: Watch, journal: Journal | None = None
) -> dict[str, dict[str, Any]]:
    """Return how every arm of a claim behaves now; cells that the journal has are not run again."""
    done: dict[str, Any] = {}
    for cell in _fingerprint.cells(claim, findings):
        data = journal.find("cell", cell.key) if journal else None
        if data is not None:
            done[cell.key] = data
    missing = [cell for cell in _fingerprint.cells(claim, findings) if cell.key not in done]
    watch.phase("fingerprint", missing, 0.0)

    def keep(cell: Cell, data: dict[str, Any]) -> None:
        done[cell.key] = data
        if journal:
            journal.append("cell", cell.key, data)
        watch.finished(cell, data)

    pool.run(missing, keep, watch.progress)
    return _fingerprint.collected(claim, findings, done.__getitem__)


def _race(race: Race, out: Path, jobs: int, watch: Watch, pool: Pool) -> dict[str, Any]:
    plan = Plan(
        task_of(race),
        [Recipe(text) for text in split(race.recipes)],
        looks=(race.seeds,),
        tune=race.tune,
        steps=race.steps,
        series=race.series,
        workers=race.workers,
        jobs=jobs,
        measure_cost=False,
    )
    races = out / "races"
    plan.out = races / plan.folder().name
    result = referee.run(plan, watch, pool, Shelf(plan, races))
    return json.loads(json.dumps(shortened(result)))  # type: ignore[no-any-return]  # as it will be read back


def task_of(race: Race) -> Task:
    """Return the task of a race: one of `claims/tasks`, or a bundled workload."""
    file = task_file(race.task)
    task = from_file(file) if file else find(race.task)
    if race.size == 1:
        return task
    return replace(task, model=functools.partial(task.model, size=race.size), name=f"{task.name} x{race.size:g}", spec="")


def _measurement(
    claim: Claim, name: str, measurement: Measurement, journal: Journal, watch: Watch, pool: Pool
) -> dict[str, Any]:
    cells = []
    for case in measurement.cases:
        key = f"{name} | {json.dumps(dict(case), sort_keys=True)}"
        cells.append(Cell(key, {"do": "measure", "claim": claim.part, "experiment": name, "case": dict(case)}))
    missing = [cell for cell in cells if journal.find("cell", cell.key) is None]
    watch.phase(name, missing, 0.0)

    def keep(cell: Cell, data: dict[str, Any]) -> None:
        journal.append("cell", cell.key, data)
        watch.finished(cell, data)

    pool.run(missing, keep, watch.progress)
    found = [(cell.payload["case"], journal.find("cell", cell.key)) for cell in cells]
    return {"cases": [{"case": case, "values": values} for case, values in found]}


def _described(experiment: Race | Measurement) -> dict[str, Any]:
    if isinstance(experiment, Race):
        return {"race": asdict(experiment)}
    return {"measurement": [dict(case) for case in experiment.cases]}


def _install(package: str) -> str:
    extras = {"sklearn": "digits"}
    return f"pip install 'sooner[{extras[package]}]'" if package in extras else f"pip install {package}"
