"""Criteria and verdicts: what is met, what can't be said, and that controls only take away."""

import math

import pytest

from sooner import claims
from sooner.claims._claim import VERDICTS, Criterion, Measured, Outcome, Race, conclude
from sooner.error import SoonerError


def outcome(met, control=False):
    return Outcome("says", Measured(1.0), met, "", control, "")


@pytest.mark.parametrize(
    ("met", "controls", "verdict"),
    [
        ([True, True], [], "reproduced"),
        ([True], [True], "reproduced"),
        ([True], [False], "reproduced in part"),
        ([True], [None], "reproduced in part"),
        ([True, False], [], "reproduced in part"),
        ([True, None], [], "reproduced in part"),
        ([False], [True], "not reproduced here"),
        ([False, None], [], "not reproduced here"),
        ([None, None], [True], "not testable at this size"),
    ],
)
def test_verdict_follows_from_the_criteria(met, controls, verdict):
    assert verdict in VERDICTS
    assert conclude([*map(outcome, met), *(outcome(c, control=True) for c in controls)]) == verdict


@pytest.mark.parametrize(
    ("measured", "limits", "met"),
    [
        (Measured(0.8), {"at_most": 0.85}, True),
        (Measured(0.9), {"at_most": 0.85}, False),
        (Measured(0.9), {"at_least": 0.85}, True),
        (Measured(0.9), {"at_least": 0.85, "at_most": 0.88}, False),
        (Measured(math.inf), {"at_most": 0.85}, False),
        (Measured(math.nan), {"at_most": 0.85}, None),
        (Measured(0.5, undecided="too few seeds"), {"at_most": 0.85}, None),
        (Measured(0.5, p=0.01, floor=(0.9, 1.1)), {"at_most": 0.85, "gain": True}, True),
        (Measured(0.5, p=0.06, floor=(0.9, 1.1)), {"at_most": 0.85, "gain": True}, False),
        (Measured(0.5, p=0.01, floor=(0.4, 1.1)), {"at_most": 0.85, "gain": True}, None),
        (Measured(0.5), {"at_most": 0.85, "gain": True}, False),
    ],
)
def test_a_criterion_is_met_or_not_or_open(measured, limits, met):
    found = Criterion("says", lambda f: measured, **limits).outcome(None)
    assert found.met is met
    assert bool(found.why) == (met is None)


def test_a_miniature_keeps_the_recipes_and_shortens_the_rest():
    small = Race("adamw; muon", "charlm_large", steps=300, seeds=16, tune=7).miniature()
    assert (small.recipes, small.task, small.seeds, small.tune) == ("adamw; muon", "charlm", 6, 1)


def test_an_unknown_claim_is_answered_with_the_nearest():
    with pytest.raises(SoonerError, match="no claim named 'muonn' \\(did you mean 'muon'\\?\\)"):
        claims.load("muonn")


def test_every_claim_is_of_a_part_and_complete():
    for name in claims.names():
        claim = claims.load(name)
        assert claim.part == name
        assert claim.criteria
        assert any(not c.control for c in claim.criteria)
        assert 0 < claim.minutes < 60
        for criterion in claim.criteria:
            assert (criterion.at_most is None) + (criterion.at_least is None) < 2, criterion.says
