"""What the site is made from: parts, papers and evidence, read once, since evidence may be published during a build."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sooner import catalogue, part
from sooner.catalogue import Paper, Status
from sooner.claims import _evidence
from sooner.claims._evidence import Evidence
from sooner.lab import _evidence as lab_evidence
from sooner.lab._evidence import Evidence as LabEvidence


@dataclass(frozen=True)
class Snapshot:
    """The state of the project that one build shows.

    Attributes:
        folder: where the evidence lies.
        parts: station of every part, by name.
        papers: rows of the catalogue.
        evidence: published evidence, by claim.
        older: by claim, the files that changed since its evidence was made; empty for fresh evidence.
        lab: published evidence of the lab, by truth.
    """

    folder: Path
    parts: dict[str, str]
    papers: tuple[Paper, ...]
    evidence: dict[str, Evidence]
    older: dict[str, list[str]]
    lab: dict[str, LabEvidence]

    def status(self, paper: Paper) -> Status:
        """Return what sooner makes of a paper, by the evidence shown here."""
        return paper.status_given(self.evidence)

    def verdict(self, name: str) -> str:
        """Return the verdict on a part in words; that there is none, where none is published."""
        if name not in self.evidence:
            return "no verdict yet"
        old = " (older than the code)" if self.older[name] else ""
        return self.evidence[name].verdict + old


_taken: list[Snapshot] = []


def take(folder: Path | None = None) -> Snapshot:
    """Read everything anew; `folder` holds other evidence than the project's own."""
    folder = folder or _evidence.folder()
    evidence = {path.stem: _evidence.read(path) for path in sorted(folder.glob("*.jsonl"))}
    older = {name: found.older_than_code() for name, found in evidence.items()}
    lab = {path.stem: lab_evidence.read(path) for path in sorted((folder / "lab").glob("*.jsonl"))}
    part.names.cache_clear()
    _taken[:] = [Snapshot(folder, dict(part.names()), catalogue.load(), evidence, older, lab)]
    return _taken[0]


def taken() -> Snapshot:
    """Return what this build shows."""
    return _taken[0]
