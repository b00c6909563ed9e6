"""The published evidence: every file reads, and its verdict follows from its findings while its code is the same."""

import pytest

from sooner import claims, lab
from sooner.claims import _evidence, _published


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


@pytest.mark.parametrize("name", _evidence.published())
def test_a_negative_verdict_rests_on_a_positive_control_that_was_met(name):
    evidence = _evidence.find(name)
    assert _published.verdict(name) == evidence.verdict
    if evidence.verdict != "not reproduced here":
        return
    missed = [o for o in evidence.outcomes if o.met is False and not o.control and not o.positive]
    controls = [o for o in evidence.outcomes if o.positive and o.met]
    assert any(set(o.experiments) <= {e for c in controls for e in c.experiments} for o in missed if o.experiments)
    for one in claims.load(name).known:
        said = [o for o in controls if o.says.startswith(f"the lab shows on {one.workload}: {one.truth} (")]
        assert not said or lab.shown(one.truth, one.workload).met, f"{one} is not shown any more"


def test_evidence_is_small():
    for name in _evidence.published():
        assert (_evidence.folder() / f"{name}.jsonl").stat().st_size < 200_000
