"""The evidence of a claim: one small file of checked lines, from which its verdict, its card and its page are made.

The file holds what the claim said, the code it ran (as digests), where and with which versions, one finding per
experiment, and the verdict. It is refused where a line was changed, where another version wrote it, or where its
verdict does not follow from its outcomes.
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sooner import claims
from sooner.claims._claim import Claim, Measured, Outcome
from sooner.claims._code import code_of, declared
from sooner.claims._conclude import Verdict, conclude, settled
from sooner.claims._findings import Findings
from sooner.claims._known import covering, known
from sooner.claims._lines import (
    checked_frame,
    from_the_package_on,
    measured_from,
    outcome_from,
    read_records,
    write_whole,
)
from sooner.claims._older import changed_since
from sooner.claims._published import folder, published, today
from sooner.error import SoonerError
from sooner.race.journal_lines import Record, write_line

__all__ = ["FORMAT", "Evidence", "find", "folder", "make", "published", "read", "write"]

FORMAT = 2
"""Version of the layout."""
READ = (1, FORMAT)
"""Those that can be read. The first had no positive controls: what it calls a miss can't be said."""


@dataclass(frozen=True)
class Evidence:
    """A claim that was run.

    Attributes:
        claim: name of the part.
        said: headline, source, paper, experiment, baseline, minutes and limits, as they stood when it was run.
        code: digest of each file it ran, `_code.code_of` of that time.
        provenance: command, versions, machine, when it started and finished, seconds of wall time.
        findings: per experiment, what was found.
        outcomes: what became of each criterion and of each positive control.
        trend: figures by size or horizon.
        verdict: the conclusion.
        changes: how the effect changes with size or length.
        declared: digest of what was declared before the run: experiments and criteria.
        fingerprint: how every arm behaves in its first steps (`_fingerprint`); empty in evidence that has none.
        confirmed: code whose behaviour was found to be the same later on, with date, versions and machine.
    """

    claim: str
    said: dict[str, Any]
    code: dict[str, str]
    provenance: dict[str, Any]
    findings: dict[str, dict[str, Any]]
    outcomes: list[Outcome]
    trend: dict[str, Measured]
    verdict: Verdict
    changes: dict[str, Measured] = field(default_factory=dict)
    declared: str = ""
    fingerprint: dict[str, dict[str, Any]] = field(default_factory=dict)
    confirmed: dict[str, Any] = field(default_factory=dict)

    @property
    def regime(self) -> dict[str, str]:
        """Under which conditions paper and experiment have their effect, label -> words; empty in old evidence."""
        said = self.said.get("regime") or {}
        labels = {
            "paper": "the paper's",
            "optimizer": "optimizer",
            "schedule": "schedule",
            "noise": "noise",
            "start": "start",
            "length": "length",
            "why": "so",
        }
        return {label: said[name] for name, label in labels.items() if said.get(name)}

    def older_than_code(self) -> list[str]:
        """Return the files that are no longer what they were when the claim was run; empty for fresh evidence.

        Files whose new text was found to behave as the old one count as the same (`_freshness.confirm`).
        """
        own = f"claims/{self.claim}.py"
        if self.claim not in claims.names():
            return [own]
        claim = claims.load(self.claim)
        now, then = code_of(claim), self.confirmed.get("code", self.code)
        return changed_since(then, now, own, self.declared == declared(claim), self.provenance)


@functools.cache
def find(name: str) -> Evidence | None:
    """Return the published evidence of a claim, None where there is none.

    Raises:
        SoonerError: the file is damaged or of another version.
    """
    path = folder() / f"{name}.jsonl"
    return read(path) if path.is_file() else None


def make(
    claim: Claim,
    findings: dict[str, dict[str, Any]],
    code: dict[str, str],
    provenance: dict[str, Any],
    fingerprint: dict[str, dict[str, Any]] | None = None,
) -> Evidence:
    """Return the evidence of a claim that has just been run: outcomes and verdict follow from the findings.

    Files of the package are named from the package on, wherever the findings speak of one: evidence is published, and
    where a checkout lies is nobody's business.
    """
    findings = from_the_package_on(findings)
    found = Findings(findings)
    outcomes = settled(covering(claim, [criterion.outcome(found) for criterion in claim.criteria]) + known(claim))
    trend = {label: measured(found) for label, measured in claim.trend.items()}
    changes = {label: measured(found) for label, measured in claim.changes.items()}
    said = {
        name: getattr(claim, name)
        for name in ("paper", "headline", "source", "experiment", "baseline", "minutes", "limits")
    }
    said["regime"] = {**asdict(claim.regime), "length": lengths(findings)}
    verdict = conclude(outcomes)
    return Evidence(
        claim.part,
        said,
        code,
        provenance,
        findings,
        outcomes,
        trend,
        verdict,
        changes,
        declared(claim),
        fingerprint or {},
    )


def lengths(findings: dict[str, dict[str, Any]]) -> str:
    """Return steps, parameters and their ratio of every set-up that was raced, in words."""
    said: dict[str, None] = {}
    for found in findings.values():
        if "contenders" in found:
            task = found["task"]
            ratio = task["steps"] / task["parameters"]
            said[f"{task['steps']:,} steps of {task['parameters']:,} parameters ({ratio:.2g} per parameter)"] = None
    return "; ".join(said)


def write(evidence: Evidence, path: Path) -> None:
    """Write the evidence, replacing an older one whole.

    Raises:
        SoonerError: the file can't be written.
    """
    lines = [
        write_line(
            "claim",
            evidence.claim,
            {
                "format": FORMAT,
                "said": evidence.said,
                "code": evidence.code,
                "declared": evidence.declared,
                "provenance": evidence.provenance,
            },
        ),
        *(write_line("finding", name, found) for name, found in evidence.findings.items()),
        *(write_line("outcome", str(i), asdict(o)) for i, o in enumerate(evidence.outcomes)),
        *(write_line("trend", label, asdict(m)) for label, m in evidence.trend.items()),
        *(write_line("change", label, asdict(m)) for label, m in evidence.changes.items()),
        *(write_line("fingerprint", name, arms) for name, arms in evidence.fingerprint.items()),
        *([write_line("confirmed", evidence.claim, evidence.confirmed)] if evidence.confirmed else []),
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
    checked_frame(path, records, "claim", "verdict", READ, _remedy(path))
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
            {record.key: measured_from(record.data) for record in by_kind.get("change", [])},
            first.data.get("declared", ""),
            {record.key: record.data for record in by_kind.get("fingerprint", [])},
            by_kind["confirmed"][-1].data if "confirmed" in by_kind else {},
        )
    except (KeyError, TypeError) as error:
        raise SoonerError(f"{path} lacks what this version of sooner reads ({error}); {_remedy(path)}") from None
    if first.data["format"] == 1:
        evidence = replace(evidence, outcomes=settled(outcomes), verdict=today(evidence.verdict))
    if evidence.verdict != conclude(evidence.outcomes):
        raise SoonerError(
            f"{path} says {evidence.verdict!r}, but its outcomes give {conclude(evidence.outcomes)!r}; {_remedy(path)}"
        )
    return evidence


def _remedy(path: Path) -> str:
    return f"restore the file, or run `sooner claim {path.stem}` again"
