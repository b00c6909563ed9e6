"""The evidence of a claim: one small file of checked lines, from which its verdict, its card and its page are made.

The file holds what the claim said, the code it ran (as digests), where and with which versions, one finding per
experiment, and the verdict. It is refused where a line was changed, where another version wrote it, or where its
verdict does not follow from its outcomes.
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sooner import claims
from sooner.claims._claim import Claim, Measured, Outcome, Verdict, conclude
from sooner.claims._code import code_of
from sooner.claims._findings import Findings
from sooner.claims._lines import (
    checked_frame,
    from_the_package_on,
    measured_from,
    outcome_from,
    read_records,
    write_whole,
)
from sooner.claims._published import folder, published
from sooner.error import SoonerError
from sooner.race.journal_lines import Record, write_line
from sooner.race.limits import RULES

__all__ = ["FORMAT", "Evidence", "find", "folder", "make", "published", "read", "write"]

FORMAT = 1
"""Version of the layout; another one is refused."""


@dataclass(frozen=True)
class Evidence:
    """A claim that was run.

    Attributes:
        claim: name of the part.
        said: headline, source, paper, experiment, baseline, minutes and limits, as they stood when it was run.
        code: digest of each file it ran, `_code.code_of` of that time.
        provenance: command, versions, machine, when it started and finished, seconds of wall time.
        findings: per experiment, what was found.
        outcomes: what became of each criterion.
        trend: figures by size or horizon.
        verdict: the conclusion.
    """

    claim: str
    said: dict[str, Any]
    code: dict[str, str]
    provenance: dict[str, Any]
    findings: dict[str, dict[str, Any]]
    outcomes: list[Outcome]
    trend: dict[str, Measured]
    verdict: Verdict

    def older_than_code(self) -> list[str]:
        """Return the files that are no longer what they were when the claim was run; empty for fresh evidence."""
        if self.claim not in claims.names():
            return [f"claims/{self.claim}.py"]
        now = code_of(claims.load(self.claim))
        changed = [name for name in {**self.code, **now} if self.code.get(name) != now.get(name)]
        return [*changed, *(["docs/race-rules.md"] if self.provenance.get("rules") != RULES else [])]


@functools.cache
def find(name: str) -> Evidence | None:
    """Return the published evidence of a claim, None where there is none.

    Raises:
        SoonerError: the file is damaged or of another version.
    """
    path = folder() / f"{name}.jsonl"
    return read(path) if path.is_file() else None


def make(
    claim: Claim, findings: dict[str, dict[str, Any]], code: dict[str, str], provenance: dict[str, Any]
) -> Evidence:
    """Return the evidence of a claim that has just been run: outcomes and verdict follow from the findings.

    Files of the package are named from the package on, wherever the findings speak of one: evidence is published, and
    where a checkout lies is nobody's business.
    """
    findings = from_the_package_on(findings)
    found = Findings(findings)
    outcomes = [criterion.outcome(found) for criterion in claim.criteria]
    trend = {label: measured(found) for label, measured in claim.trend.items()}
    said = {
        name: getattr(claim, name)
        for name in ("paper", "headline", "source", "experiment", "baseline", "minutes", "limits")
    }
    return Evidence(claim.part, said, code, provenance, findings, outcomes, trend, conclude(outcomes))


def write(evidence: Evidence, path: Path) -> None:
    """Write the evidence, replacing an older one whole.

    Raises:
        SoonerError: the file can't be written.
    """
    lines = [
        write_line(
            "claim",
            evidence.claim,
            {"format": FORMAT, "said": evidence.said, "code": evidence.code, "provenance": evidence.provenance},
        ),
        *(write_line("finding", name, found) for name, found in evidence.findings.items()),
        *(write_line("outcome", str(i), asdict(o)) for i, o in enumerate(evidence.outcomes)),
        *(write_line("trend", label, asdict(m)) for label, m in evidence.trend.items()),
        write_line("verdict", evidence.claim, {"verdict": evidence.verdict}),
    ]
    write_whole(path, lines)


def read(path: Path) -> Evidence:
    """Return the evidence in a file.

    Raises:
        SoonerError: the file can't be read, a line was changed or is missing, another version wrote it, or its verdict
            does not follow from its outcomes.
    """
    records = read_records(path, _remedy(path))
    checked_frame(path, records, "claim", "verdict", FORMAT, _remedy(path))
    by_kind: dict[str, list[Record]] = {}
    for record in records:
        by_kind.setdefault(record.kind, []).append(record)
    first = records[0]
    try:
        outcomes = [outcome_from(record.data) for record in by_kind.get("outcome", [])]
        evidence = Evidence(
            first.key,
            first.data["said"],
            first.data["code"],
            first.data["provenance"],
            {record.key: record.data for record in by_kind.get("finding", [])},
            outcomes,
            {record.key: measured_from(record.data) for record in by_kind.get("trend", [])},
            records[-1].data["verdict"],
        )
    except (KeyError, TypeError) as error:
        raise SoonerError(f"{path} lacks what this version of sooner reads ({error}); {_remedy(path)}") from None
    if evidence.verdict != conclude(outcomes):
        raise SoonerError(
            f"{path} says {evidence.verdict!r}, but its outcomes give {conclude(outcomes)!r}; {_remedy(path)}"
        )
    return evidence


def _remedy(path: Path) -> str:
    return f"restore the file, or run `sooner claim {path.stem}` again"
