"""The evidence of a truth: one small file of checked lines, in the form of that of claims.

It holds what the truth said, the code it ran (as digests), where and with which versions, one finding per workload and
experiment, what became of each criterion, and on which workloads the truth is shown.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import sooner
from sooner.claims._claim import Outcome
from sooner.claims._code import code_behind, digest_of
from sooner.claims._findings import Findings
from sooner.claims._lines import (
    checked_frame,
    from_the_package_on,
    outcome_from,
    read_records,
    write_whole,
)
from sooner.claims._older import changed_since
from sooner.lab import _panel
from sooner.lab._published import folder
from sooner.lab._truth import Truth
from sooner.race.journal_lines import Record, write_line

FORMAT = 2
"""Version of the layout that is written."""
READ = (1, 2)
"""Versions that are read; another one is refused. The first had no fingerprints."""


@dataclass(frozen=True)
class Evidence:
    """A truth that was looked for.

    Attributes:
        truth: its name.
        said: sentence, source, size expected, and why it is absent where it is known to be, as they stood at the run.
        code: digest of each file it ran.
        provenance: command, versions, machine, when it started and finished.
        findings: per ``workload: experiment``, what was found; of races only the contenders that the truth asks about.
        outcomes: per workload, what became of each criterion.
        declared: digest of experiments and criteria; empty in evidence of the first format.
        fingerprint: how every arm behaves in its first steps (`sooner.claims._fingerprint`); empty where none was kept.
        confirmed: that edited code behaves as it did, when, and the digests of its files; empty where nobody asked.
    """

    truth: str
    said: dict[str, Any]
    code: dict[str, str]
    provenance: dict[str, Any]
    findings: dict[str, dict[str, Any]]
    outcomes: dict[str, list[Outcome]]
    declared: str = ""
    fingerprint: dict[str, dict[str, Any]] = field(default_factory=dict)
    confirmed: dict[str, Any] = field(default_factory=dict)

    def shown(self) -> dict[str, bool]:
        """Return by workload whether the truth is shown there: all criteria are met."""
        return {workload: all(o.met for o in outcomes) for workload, outcomes in self.outcomes.items()}

    def failing(self) -> list[str]:
        """Return the workloads that should show the truth and do not, and those that do although they should not."""
        return [w for w, shown in self.shown().items() if shown == bool(self.said["absent"].get(w))]

    def outcome(self, workload: str) -> Outcome | None:
        """Return the first criterion's outcome on a workload, met where all are; None where it was not looked for."""
        found = self.outcomes.get(workload)
        if not found:
            return None
        undecided = next((o.why for o in found if o.met is None), "")
        met = None if undecided and not any(o.met is False for o in found) else all(o.met for o in found)
        return replace(found[0], met=met, why=found[0].why or undecided)

    def older_than_code(self) -> list[str]:
        """Return the files that are no longer what they were at the run; empty for fresh evidence.

        Files whose new text was found to behave as the old one count as the same (`_freshness.confirm`).
        """
        own = f"lab/{self.truth}.py"
        if self.truth not in _panel.names():
            return [own]
        truth = _panel.load(self.truth)
        now, then = code_of(truth), self.confirmed.get("code", self.code)
        kept = not self.declared or self.declared == declared(truth)
        return changed_since(then, now, own, kept, self.provenance)


class _Asked(Findings):
    """Findings that remember which contenders they were asked about."""

    def __init__(self, found: Mapping[str, dict[str, Any]]) -> None:
        super().__init__(found)
        self.asked: dict[str, list[str]] = {name: [] for name in found}

    def row(self, race: str, contender: str) -> dict[str, Any]:
        row = super().row(race, contender)
        self.asked[race].append(row["recipe"])
        return row

    def kept(self, name: str) -> dict[str, Any]:
        """Return what was found in an experiment: of a race its baseline and the contenders asked about."""
        found = self.found[name]
        if "contenders" not in found:
            return found
        baseline, *others = found["contenders"]
        return {**found, "contenders": [baseline, *(r for r in others if r["recipe"] in self.asked[name])]}


def code_of(truth: Truth) -> dict[str, str]:
    """Return ``{file: digest}`` of the truth's file, its tasks, its parts, and what these import of their stations."""
    file = Path(sooner.__file__).parent / "lab" / f"{truth.name}.py"
    return code_behind([file], truth.experiments.values())


def declared(truth: Truth) -> str:
    """Return a digest of what a truth fixes before it is looked for: experiments and criteria."""
    return digest_of(truth.experiments, [c for setting in truth.on.values() for c in setting.criteria])


@functools.cache
def find(name: str) -> Evidence | None:
    """Return the published evidence of a truth, None where there is none.

    Raises:
        SoonerError: the file is damaged or of another version.
    """
    path = folder() / f"{name}.jsonl"
    return read(path) if path.is_file() else None


def make(
    truth: Truth,
    findings: dict[str, dict[str, Any]],
    code: dict[str, str],
    provenance: dict[str, Any],
    fingerprint: dict[str, dict[str, Any]] | None = None,
) -> Evidence:
    """Return the evidence of a truth that has just been looked for: outcomes follow from the findings."""
    findings = from_the_package_on(findings)
    outcomes, kept = {}, {}
    for workload, setting in truth.on.items():
        asked = _Asked({name: findings[f"{workload}: {name}"] for name in setting.experiments})
        outcomes[workload] = [criterion.outcome(asked) for criterion in setting.criteria]
        kept.update({f"{workload}: {name}": asked.kept(name) for name in setting.experiments})
    said = {
        **{name: getattr(truth, name) for name in ("says", "source", "expected", "oracle")},
        "absent": {workload: setting.absent for workload, setting in truth.on.items() if setting.absent},
    }
    arms = {
        name: {row["recipe"] for row in found["contenders"]} for name, found in kept.items() if "contenders" in found
    }
    behaviour = {
        name: {arm: values for arm, values in of.items() if name not in arms or arm in arms[name]}
        for name, of in (fingerprint or {}).items()
    }
    return Evidence(truth.name, said, code, provenance, kept, outcomes, declared(truth), behaviour)


def write(evidence: Evidence, path: Path) -> None:
    """Write the evidence, replacing an older one whole.

    Raises:
        SoonerError: the file can't be written.
    """
    head = {
        "format": FORMAT,
        "said": evidence.said,
        "code": evidence.code,
        "declared": evidence.declared,
        "provenance": evidence.provenance,
    }
    write_whole(
        path,
        [
            write_line("truth", evidence.truth, head),
            *(write_line("finding", name, found) for name, found in evidence.findings.items()),
            *(write_line("outcome", w, {"of": [asdict(o) for o in some]}) for w, some in evidence.outcomes.items()),
            *(write_line("fingerprint", name, arms) for name, arms in evidence.fingerprint.items()),
            *([write_line("confirmed", evidence.truth, evidence.confirmed)] if evidence.confirmed else []),
            write_line("shown", evidence.truth, {"shown": evidence.shown()}),
        ],
    )


def read(path: Path) -> Evidence:
    """Return the evidence in a file.

    Raises:
        SoonerError: the file can't be read, a line was changed or is missing, another version wrote it, or what it says
            is shown does not follow from its outcomes.
    """
    remedy = f"restore the file, or run `sooner lab {path.stem}` again"
    records = read_records(path, remedy)
    checked_frame(path, records, "truth", "shown", READ, remedy)
    try:
        evidence = _read(records)
        said = records[-1].data["shown"]
    except (KeyError, TypeError) as error:
        raise sooner.SoonerError(f"{path} lacks what this version of sooner reads ({error}); {remedy}") from None
    if said != evidence.shown():
        raise sooner.SoonerError(f"{path} says {said}, but its outcomes give {evidence.shown()}; {remedy}")
    return evidence


def _read(records: Sequence[Record]) -> Evidence:
    head = records[0]
    return Evidence(
        head.key,
        head.data["said"],
        head.data["code"],
        head.data["provenance"],
        {record.key: record.data for record in records if record.kind == "finding"},
        {r.key: [outcome_from(data) for data in r.data["of"]] for r in records if r.kind == "outcome"},
        head.data.get("declared", ""),
        {record.key: record.data for record in records if record.kind == "fingerprint"},
        next((record.data for record in records if record.kind == "confirmed"), {}),
    )
