"""Looking for a truth: its experiments run as those of claims do, and races are shared among all truths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sooner.claims._run import WORKER, Study, run_study
from sooner.lab import _evidence
from sooner.lab._evidence import Evidence
from sooner.lab._truth import Truth
from sooner.race.journal import FILE, read
from sooner.race.pool import Pool
from sooner.watch import Watch

__all__ = ["WORKER", "finished", "run", "study_of"]


def study_of(truth: Truth) -> Study:
    """Return a truth as what can be run."""
    return Study("truth", truth.name, "sooner.lab._panel:load", truth.experiments, _evidence.code_of(truth))


def finished(truth: Truth, out: Path) -> bool:
    """Whether a truth, with the code as it stands, has been run to its end in this folder."""
    folder = study_of(truth).folder(out)
    return (folder / FILE).is_file() and read(folder).find("evidence", "evidence") is not None


def run(
    truth: Truth, out: Path, *, jobs: int, command: str = "", watch: Watch | None = None, pool: Pool | None = None
) -> Evidence:
    """Run the experiments of a truth, or what is left of them, and return the evidence, also written to its folder.

    Args:
        truth: the truth.
        out: folder of all truths; races go into ``out/races``, where truths share them.
        jobs: worker processes.
        command: what to type to repeat it.
        watch: is told what happens.
        pool: workers to use; None starts `jobs` of them.

    Raises:
        SoonerError: a folder can't be used, the disk is full, or an experiment failed.
    """
    study = study_of(truth)

    def conclude(findings: dict[str, dict[str, Any]], provenance: dict[str, Any], path: Path) -> Evidence:
        behaviour = provenance.pop("fingerprint")
        evidence = _evidence.make(truth, findings, study.code, provenance, behaviour)
        _evidence.write(evidence, path)
        return evidence

    return run_study(
        study,
        out,
        conclude,
        _evidence.read,
        jobs=jobs,
        command=command,
        watch=watch or Watch(),
        pool=pool,
        fingerprint=True,
    )
