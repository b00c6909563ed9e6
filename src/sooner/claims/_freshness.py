"""Whether evidence that is older than its code still holds: its arms are run again for their first steps."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sooner import claims
from sooner.claims import _evidence, _fingerprint
from sooner.claims._claim import Measurement
from sooner.claims._code import code_of, declared
from sooner.claims._evidence import Evidence
from sooner.claims._run import Study, fingerprint_of, study_of
from sooner.race.limits import RULES
from sooner.race.machine import machine, now, processor, versions
from sooner.race.pool import Pool
from sooner.watch import Watch


def confirm(evidence: Evidence, pool: Pool, watch: Watch | None = None) -> tuple[Evidence | None, str]:
    """Return the evidence with the code as it stands, where that behaves as the old one did, and else why it does not.

    Rules, experiments and criteria have to be those of the run, the criteria have to make the same of its findings, and
    the fingerprints have to agree.
    """
    why = _declared_otherwise(evidence)
    if why:
        return None, why
    claim = claims.load(evidence.claim)
    why = behaves_otherwise(study_of(claim), evidence.findings, evidence.fingerprint, evidence.provenance, pool, watch)
    return (None, why) if why else (replace(evidence, confirmed=note(code_of(claim), evidence.provenance)), "")


def behaves_otherwise(
    study: Study,
    findings: Mapping[str, dict[str, Any]],
    fingerprint: Mapping[str, dict[str, Any]],
    provenance: Mapping[str, Any],
    pool: Pool,
    watch: Watch | None = None,
) -> str:
    """Return in which arm the first steps of a study are no longer what its fingerprint has, "" where they are."""
    behaviour = fingerprint_of(study, findings, pool, watch or Watch())
    tolerance = tolerance_of(provenance)
    changed = _fingerprint.differences(behaviour, fingerprint, tolerance)
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"it behaves otherwise ({changed[0]}{more}; relative tolerance {tolerance:g})" if changed else ""


def note(code: dict[str, str], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return what evidence keeps of having been confirmed, now and here."""
    tolerance = tolerance_of(provenance)
    return {"code": code, "when": now(), "tolerance": tolerance, "versions": versions(), "machine": machine()}


def tolerance_of(provenance: Mapping[str, Any]) -> float:
    """Return how closely fingerprints have to agree here: other processors and versions round otherwise."""
    same = provenance["versions"] == versions() and provenance["machine"].get("processor") == processor()
    return _fingerprint.SAME if same else _fingerprint.OTHER


def _declared_otherwise(evidence: Evidence) -> str:
    if evidence.provenance.get("rules") != RULES:
        return f"it was run by version {evidence.provenance.get('rules')} of the race rules, this is {RULES}"
    claim = claims.load(evidence.claim)
    if any(isinstance(e, Measurement) and e.timed for e in claim.experiments.values()):
        return "it measures time, of which no fingerprint speaks"
    if not evidence.fingerprint:
        return "it keeps no fingerprint of its behaviour"
    if evidence.declared != declared(claim):
        return "its experiments, criteria or controls are declared otherwise now"
    if claim.extra and importlib.util.find_spec(claim.extra) is None:
        return f"{claim.extra}, which it needs, is not installed"
    again = _evidence.make(claim, evidence.findings, evidence.code, evidence.provenance)
    said = [(o.says, o.met, repr(o.measured)) for o in again.outcomes if not _of_the_lab(o.says)]
    if said != [(o.says, o.met, repr(o.measured)) for o in evidence.outcomes if not _of_the_lab(o.says)]:
        return "its criteria make something else of the same findings"
    return ""


def _of_the_lab(says: str) -> bool:
    return says.startswith("the lab shows")
