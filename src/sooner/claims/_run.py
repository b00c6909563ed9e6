"""Running a study: every experiment by its rules, cell by cell into journals, so that what was stopped goes on.

A claim is a study, and so is a truth of the lab; they differ in what follows from the findings.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from sooner.claims import _code, _evidence, _fingerprint
from sooner.claims._claim import Claim, Measurement, Race
from sooner.claims._code import code_of
from sooner.claims._evidence import Evidence
from sooner.claims._findings import shortened
from sooner.error import SoonerError
from sooner.race import referee
from sooner.race.engines.processes import Processes
from sooner.race.journal import Journal
from sooner.race.limits import RULES
from sooner.race.machine import machine, now, processor, versions
from sooner.race.plan import Plan
from sooner.race.pool import Cell, Pool
from sooner.race.shelf import Shelf
from sooner.recipe import Recipe
from sooner.recipe.text import split
from sooner.watch import Watch, Within, watching

WORKER = "sooner.claims._worker:run_cell"


Found = TypeVar("Found")


@dataclass(frozen=True)
class Study:
    """Experiments that are run together.

    Args:
        kind: what it is, such as "claim".
        name: of this one.
        finder: ``module:function`` that returns, for the name, what has these `experiments`; workers ask it for the
            measurements among them.
        experiments: by name.
        code: digest of each file that decides what is found.
    """

    kind: str
    name: str
    finder: str
    experiments: Mapping[str, Race | Measurement]
    code: dict[str, str]

    def identity(self) -> dict[str, Any]:
        """Return everything that decides what is found."""
        return {
            self.kind: self.name,
            "rules": RULES,
            "code": self.code,
            "experiments": {name: _described(one) for name, one in self.experiments.items()},
            "versions": versions(),
            "processor": processor(),
        }

    def folder(self, out: Path) -> Path:
        """Return the folder of its journal, named after its identity: other code gets another folder."""
        text = json.dumps(self.identity(), sort_keys=True)
        return out / f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def study_of(claim: Claim) -> Study:
    """Return a claim as what can be run."""
    return Study("claim", claim.part, "sooner.claims:load", claim.experiments, code_of(claim))


def folder_of(claim: Claim, out: Path) -> Path:
    """Return the folder of a claim's journal, named after its identity: other code gets another folder."""
    return study_of(claim).folder(out)


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
    study = study_of(claim)
    told = watching(watch)

    def conclude(findings: dict[str, dict[str, Any]], provenance: dict[str, Any], path: Path) -> Evidence:
        behaviour = provenance.pop("fingerprint")
        evidence = _evidence.make(claim, findings, study.code, provenance, behaviour)
        _evidence.write(evidence, path)
        told.verdict(claim.part, evidence.verdict, evidence.said["headline"])
        return evidence

    return run_study(
        study,
        out,
        conclude,
        _evidence.read,
        jobs=jobs,
        command=command,
        watch=told,
        pool=pool,
        fingerprint=True,
    )


def run_study(
    study: Study,
    out: Path,
    conclude: Callable[[dict[str, dict[str, Any]], dict[str, Any], Path], Found],
    read: Callable[[Path], Found],
    *,
    jobs: int,
    command: str,
    watch: Watch,
    pool: Pool | None = None,
    fingerprint: bool = False,
) -> Found:
    """Run a study, or what is left of it, and return what was concluded.

    Args:
        study: the experiments.
        out: folder of all studies of a kind; races go into ``out/races``, where studies share what they have in common.
        conclude: ``conclude(findings, provenance, path)`` writes the evidence to the path and returns it.
        read: returns the evidence in a file.
        jobs: worker processes.
        command: what to type to repeat it.
        watch: is told what happens.
        pool: workers to use; None starts `jobs` of them.
        fingerprint: also run the first steps of every arm, and put what they give into the provenance under that name.

    Raises:
        SoonerError: a folder can't be used, the disk is full, or an experiment failed.
    """
    folder = study.folder(out)
    started = time.monotonic()
    provenance: dict[str, Any] = {
        "command": command,
        "rules": RULES,
        "versions": versions(),
        "machine": machine(),
        "started": now(),
    }
    with Journal.open(folder, study.identity(), {**provenance, "jobs": jobs}) as journal:
        if journal.find("evidence", "evidence") is not None:
            return read(folder / "evidence.jsonl")
        told = watching(watch)
        told.start({"kind": study.kind, "name": study.name, "folder": str(folder), "command": command})
        watch = Within(told)
        workers = pool or Processes(jobs, WORKER)
        try:
            findings = {
                name: _race(one, out, jobs, watch, workers)
                if isinstance(one, Race)
                else _measurement(study, name, one, journal, watch, workers)
                for name, one in study.experiments.items()
            }
            behaviour = fingerprint_of(study, findings, workers, watch, journal) if fingerprint else {}
        except BaseException as error:
            told.end({"error": f"{type(error).__name__}: {error}" if str(error) else type(error).__name__})
            raise
        finally:
            if pool is None:
                workers.close()
        sessions = [record.data for record in journal.sessions]
        minutes = round((time.monotonic() - started) / 60, 2) if len(sessions) == 1 else None  # pauses don't count
        provenance = {**provenance, "started": sessions[0]["started"], "finished": now(), "jobs": jobs}
        if fingerprint:
            provenance["fingerprint"] = behaviour
        evidence = conclude(findings, {**provenance, "minutes": minutes}, folder / "evidence.jsonl")
        journal.append("evidence", "evidence", {"done": True})
        told.end({"finished": provenance["finished"]})
    return evidence


def fingerprint_of(
    study: Study, findings: Mapping[str, dict[str, Any]], pool: Pool, watch: Watch, journal: Journal | None = None
) -> dict[str, dict[str, Any]]:
    """Return how every arm of a study behaves now; cells that the journal has are not run again."""
    wanted = _fingerprint.cells(study.finder, study.name, study.experiments, findings)
    done = {key: data for key in wanted if journal and (data := journal.find("cell", wanted[key].key)) is not None}
    missing = {cell.key: key for key, cell in wanted.items() if key not in done}
    watch.phase("fingerprint", [wanted[key] for key in missing.values()], 0.0)

    def keep(cell: Cell, data: dict[str, Any]) -> None:
        done[missing[cell.key]] = data
        if journal:
            journal.append("cell", cell.key, data)
        watch.finished(cell, data)

    pool.run([wanted[key] for key in missing.values()], keep, watch.progress)
    return {name: {arm: done[n, arm] for n, arm in wanted if n == name} for name in study.experiments}


def _race(race: Race, out: Path, jobs: int, watch: Watch, pool: Pool) -> dict[str, Any]:
    plan = plan_of(race, out, jobs)
    result = referee.run(plan, watch, pool, Shelf(plan, out / "races"))
    return json.loads(json.dumps(shortened(result)))  # type: ignore[no-any-return]  # as it will be read back


def plan_of(race: Race, out: Path, jobs: int = 1) -> Plan:
    """Return the plan of a race, whose folder lies among the others of its kind."""
    plan = Plan(
        _code.task_of(race),
        [Recipe(text) for text in split(race.recipes)],
        looks=(race.seeds,),
        tune=race.tune,
        steps=race.steps,
        series=race.series,
        workers=race.workers,
        jobs=jobs,
        measure_cost=False,
    )
    plan.out = out / "races" / plan.folder().name
    return plan


def _measurement(
    study: Study, name: str, measurement: Measurement, journal: Journal, watch: Watch, pool: Pool
) -> dict[str, Any]:
    where = {"do": "measure", "finder": study.finder, "name": study.name, "experiment": name}
    cells = []
    for case in measurement.cases:
        key = f"{name} | {json.dumps(dict(case), sort_keys=True)}"
        cells.append(Cell(key, {**where, "case": dict(case)}))
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
