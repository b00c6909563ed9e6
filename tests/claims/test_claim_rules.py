"""Criteria and verdicts: what is met, what can't be said, and that controls only take away."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sooner import claims, lab
from sooner.claims._claim import Criterion, Known, Measured, Outcome, Race
from sooner.claims._conclude import VERDICTS, conclude, settled
from sooner.claims._findings import Findings
from sooner.claims._known import known, spoken_of
from sooner.error import SoonerError
from sooner.race.statistics import smallest_effect


def outcome(met, control=False, positive=False, experiments=("race",), takes=""):
    return Outcome("says", Measured(1.0), met, "", control, "", positive=positive, experiments=experiments, takes=takes)


@pytest.mark.parametrize(
    ("met", "controls", "positive", "verdict"),
    [
        ([True, True], [], [], "reproduced"),
        ([True], [True], [False], "reproduced"),
        ([True], [False], [True], "reproduced in part"),
        ([True], [None], [], "reproduced in part"),
        ([True, False], [], [True], "reproduced in part"),
        ([True, None], [], [], "reproduced in part"),
        ([False], [True], [True], "not reproduced here"),
        ([False, None], [], [True], "not reproduced here"),
        ([False], [True], [], "not testable at this size"),
        ([False, False], [True], [False], "not testable at this size"),
        ([False], [], [None], "not testable at this size"),
        ([None, None], [True], [True], "not testable at this size"),
    ],
)
def test_verdict_follows_from_the_criteria(met, controls, positive, verdict):
    assert verdict in VERDICTS
    outcomes = [
        *map(outcome, met),
        *(outcome(c, control=True) for c in controls),
        *(outcome(p, positive=True) for p in positive),
    ]
    assert conclude(outcomes) == verdict
    assert conclude(settled(outcomes)) == verdict


@given(
    st.lists(st.tuples(st.sampled_from([True, False, None]), st.sampled_from("cnp"), st.sets(st.sampled_from("ab"))))
)
def test_no_negative_verdict_without_a_positive_control_that_was_met(drawn):
    outcomes = [outcome(met, kind == "n", kind == "p", tuple(sorted(names))) for met, kind, names in drawn]
    if conclude(outcomes) == "not reproduced here":
        shown = {name for o in outcomes if o.positive and o.met for name in o.experiments}
        missed = [o for o in outcomes if o.met is False and not o.control and not o.positive]
        assert any(o.experiments and shown.issuperset(o.experiments) for o in missed)


def test_a_control_speaks_of_its_own_experiments_only():
    missed = outcome(False, experiments=("text", "images"))
    assert conclude([missed, outcome(True, positive=True, experiments=("text",))]) == "not testable at this size"
    assert conclude([missed, outcome(True, positive=True, experiments=("images", "text"))]) == "not reproduced here"


def test_what_is_missed_without_a_control_says_what_it_would_take():
    (alone,) = settled([outcome(False)])
    assert (alone.met, alone.takes) == (None, "a positive control in the same set-up")
    first, _ = settled([outcome(False), outcome(None, positive=True, takes="about 30 seeds")])
    assert first.met is None
    assert "the positive control was not met either (says)" in first.why
    assert first.takes == "about 30 seeds"


SEEN = {"spread": 0.1, "pairs": 8}
BLUNT = {"spread": 0.6, "pairs": 8}


@pytest.mark.parametrize(
    ("measured", "limits", "met"),
    [
        (Measured(1.1, 1.0, 1.2, 0.1, unit="x", **SEEN), {"at_most": 0.85, "gain": True}, False),
        (Measured(0.9, 0.7, 1.2, 0.3, unit="x", **BLUNT), {"at_most": 0.85, "gain": True}, None),
        (Measured(0.9, 0.8, 1.0, 0.3, unit="x", **SEEN), {"at_most": 0.85, "gain": True}, False),
        (Measured(0.8, 0.6, 1.1, 0.3, unit="x", **BLUNT), {"at_most": 0.85, "gain": True}, None),
        (Measured(1.1, 1.02, 1.2, unit="x"), {"at_most": 1.05}, None),
        (Measured(1.2, 1.1, 1.3, unit="x"), {"at_most": 1.05}, False),
        (Measured(0.99, 0.9, 1.1, 0.5, unit="x", **BLUNT), {"at_most": 1.0, "gain": True}, None),
        (Measured(0.99, 0.9, 1.1, 0.5, unit="x", **SEEN), {"at_most": 1.0, "gain": True}, None),
        (Measured(0.99, 0.9, 1.1, 0.5, unit="x", **SEEN), {"at_most": 1.0, "gain": True, "effect": 0.8}, False),
        (Measured(math.inf, 0.0, math.inf, 0.04, unit="x"), {"at_most": 0.85, "gain": True}, None),
        (Measured(0.5, 0.4, 0.6), {"at_least": 0.75, "at_most": 1.2}, False),
        (Measured(0.7, 0.6, 0.8), {"at_least": 0.75, "at_most": 1.2}, None),
    ],
)
def test_a_miss_counts_where_the_interval_or_the_power_says_so(measured, limits, met):
    found = Criterion("says", lambda f: measured, **limits).outcome(Findings({}))
    assert found.met is met
    assert bool(found.why) == (met is None)
    assert bool(found.takes) == (met is None)


def test_it_says_how_many_seeds_an_answer_would_take():
    found = Criterion(
        "says", lambda f: Measured(0.9, 0.7, 1.2, 0.3, unit="x", **BLUNT), at_most=0.85, gain=True
    ).outcome(Findings({}))
    seeds = int(found.takes.split()[1])
    assert smallest_effect(BLUNT["spread"], seeds) >= 0.85 > smallest_effect(BLUNT["spread"], seeds - 1)
    assert "the smallest effect that 8 seeds can see here is" in found.why


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
        (Measured(0.5, p=0.06, floor=(0.9, 1.1)), {"at_most": 0.85, "gain": True}, None),
        (Measured(0.5, p=0.01, floor=(0.4, 1.1)), {"at_most": 0.85, "gain": True}, True),
        (Measured(0.5), {"at_most": 0.85, "gain": True}, False),
    ],
)
def test_a_criterion_is_met_or_not_or_open(measured, limits, met):
    found = Criterion("says", lambda f: measured, **limits).outcome(Findings({}))
    assert found.met is met
    assert bool(found.why) == (met is None)


def test_a_miniature_keeps_the_recipes_and_shortens_the_rest():
    small = Race("adamw; muon", "charlm", steps=300, seeds=16, tune=7, size=4).miniature()
    assert (small.recipes, small.task, small.seeds, small.tune, small.size) == ("adamw; muon", "charlm", 6, 1, 1)


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
        assert all(vars(claim.regime).values()), name
        for criterion in claim.criteria:
            assert (criterion.at_most is None) + (criterion.at_least is None) < 2, criterion.says


EXACT = {"dense", "ef21_w", "normalized_logistic_gd", "softmax_ghosts"}
"""Claims without a positive control, which therefore can't come to a negative verdict."""


def test_every_claim_has_a_positive_control():
    without = {
        name
        for name in claims.names()
        if not (claim := claims.load(name)).known and not any(c.positive for c in claim.criteria)
    }
    assert without == EXACT


def test_what_the_lab_is_said_to_show_speaks_of_a_race_of_the_claim():
    for name in claims.names():
        claim = claims.load(name)
        for one in claim.known:
            assert one.workload in lab.load(one.truth).on, (name, one)
            assert spoken_of(claim, one), (name, one)
            assert set(one.covers) <= claim.experiments.keys(), (name, one)


def test_what_the_lab_has_not_shown_is_a_control_that_was_not_met(monkeypatch):
    claim = replace(claims.load("adamw"), known=(Known("decay", "charlm"),))
    monkeypatch.setattr(lab, "shown", lambda truth, workload: None)
    (found,) = known(claim)
    assert (found.positive, found.met, found.experiments) == (True, None, ("long",))
    monkeypatch.setattr(lab, "shown", lambda truth, workload: outcome(True, experiments=("theirs",)))
    (found,) = known(claim)
    assert (found.positive, found.met, found.experiments) == (True, True, ("long",))
