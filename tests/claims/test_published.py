"""The published evidence: every file reads, and its verdict follows from its findings while its code is the same."""

import pytest

from sooner import claims
from sooner.claims import _evidence


@pytest.mark.parametrize("name", _evidence.published())
def test_verdicts_follow_from_the_findings(name):
    evidence = _evidence.find(name)
    assert evidence.claim == name
    assert name in claims.names()
    if not evidence.older_than_code():
        again = _evidence.make(claims.load(name), evidence.findings, evidence.code, evidence.provenance)
        assert [(o.says, o.met, o.control) for o in again.outcomes] == [
            (o.says, o.met, o.control) for o in evidence.outcomes
        ]
        assert again.verdict == evidence.verdict


def test_evidence_is_small():
    for name in _evidence.published():
        assert (_evidence.folder() / f"{name}.jsonl").stat().st_size < 200_000
