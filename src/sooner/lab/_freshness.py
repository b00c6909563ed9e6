"""Whether the evidence of a truth still holds for code that was edited, as that of claims is judged: by behaviour."""

from __future__ import annotations

from dataclasses import replace

from sooner.claims._freshness import behaves_otherwise, note
from sooner.claims._run import fingerprint_of
from sooner.lab import _evidence, _panel
from sooner.lab._evidence import Evidence
from sooner.lab._run import study_of
from sooner.race.limits import RULES
from sooner.race.pool import Pool
from sooner.watch import Watch


def confirm(evidence: Evidence, pool: Pool, watch: Watch | None = None) -> tuple[Evidence | None, str]:
    """Return the evidence with the code as it stands, where that behaves as the old one did, and else why it does not.

    Evidence of the code as it stands that has no fingerprint yet gets one.
    """
    if evidence.truth not in _panel.names():
        return None, "its truth is gone"
    if evidence.provenance.get("rules") != RULES:
        return None, f"it was run by version {evidence.provenance.get('rules')} of the race rules, this is {RULES}"
    truth = _panel.load(evidence.truth)
    study = study_of(truth)
    asked = replace(study, experiments={n: one for n, one in study.experiments.items() if n in evidence.findings})
    if not evidence.fingerprint and not evidence.older_than_code():
        behaviour = fingerprint_of(asked, evidence.findings, pool, watch or Watch())
        return replace(evidence, fingerprint=behaviour, declared=_evidence.declared(truth)), ""
    if not evidence.fingerprint:
        return None, "it keeps no fingerprint of its behaviour"
    if evidence.declared != _evidence.declared(truth):
        return None, "its experiments or criteria are declared otherwise now"
    why = behaves_otherwise(asked, evidence.findings, evidence.fingerprint, evidence.provenance, pool, watch)
    return (None, why) if why else (replace(evidence, confirmed=note(study.code, evidence.provenance)), "")
