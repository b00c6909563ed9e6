"""Claims at several sizes: the races, how a gain changes from one to the next, and what a verdict's sentence says."""

import math
from dataclasses import replace

import pytest

from sooner import claims
from sooner.claims._claim import Measured, Outcome, Race
from sooner.claims._code import task_of
from sooner.claims._conclude import conclude, settled
from sooner.claims._evidence import Evidence, lengths
from sooner.claims._findings import Findings
from sooner.claims._regimes import oracle
from sooner.claims._shape import HORIZONS, SIZES, at_scales, changes, per_doubling
from sooner.report.claim import sentence


def race(ours, theirs):
    rows = []
    for recipe, steps in (("adamw", theirs), ("muon", ours)):
        target = {"steps": steps, "hits": len(steps), "of": len(steps), "ratio": 0.5, "low": 0.4, "high": 0.6}
        row = {
            "recipe": recipe,
            "status": "raced",
            "tuning": {"edge": []},
            "targets": {"middle": {**target, "p_holm": 1}},
        }
        rows.append(row)
    return {"contenders": rows, "targets": {"middle": 1.0}, "noise_floor": {"low": 0.9, "high": 1.1}}


SEEDS = [100.0, 110.0, 90.0, 105.0, 95.0, 120.0]


def shrinking(factor):
    """Races of three sizes in which the ratio of steps is 0.5 and grows by a factor per doubling, a little noisy."""
    return Findings(
        {
            f"{size}x": race([0.5 * factor**k * s * (1 + 0.01 * (i % 3 - 1)) for i, s in enumerate(SEEDS)], SEEDS)
            for k, size in enumerate((1, 2, 4))
        }
    )


@pytest.mark.parametrize("factor", [1.0, 1.2, 0.9])
def test_a_change_per_doubling_is_the_slope_over_sizes(factor):
    found = per_doubling(shrinking(factor), {1: "1x", 2: "2x", 4: "4x"}, "muon")
    assert found.value == pytest.approx(factor)
    assert found.low - 1e-9 <= factor <= found.high + 1e-9
    assert (found.unit, found.undecided) == ("x", "")


def test_seeds_that_miss_are_left_out_until_too_few_are_left():
    f = shrinking(1.1)
    f.found["2x"]["contenders"][1]["targets"]["middle"]["steps"][0] = None
    assert per_doubling(f, {1: "1x", 2: "2x", 4: "4x"}, "muon").value == pytest.approx(1.1)
    f.found["2x"]["contenders"][1]["targets"]["middle"]["steps"][:3] = [None] * 3
    assert "too few seeds" in per_doubling(f, {1: "1x", 2: "2x", 4: "4x"}, "muon").undecided
    f.found["4x"]["targets"]["middle"] = None
    assert "no middle target" in per_doubling(f, {1: "1x", 4: "4x"}, "muon").undecided


def test_a_headline_is_raced_at_three_sizes_and_two_lengths_with_an_oracle():
    races = at_scales("adamw; muon")
    assert {(r.size, r.steps) for r in races.values()} == {(s, n) for s in SIZES.values() for n in HORIZONS.values()}
    assert [oracle("adamw") in r.recipes for r in races.values()] == [False, True] * 3
    for name in claims.names():
        claim = claims.load(name)
        if races.keys() <= claim.experiments.keys():
            assert claim.changes.keys() == changes(name).keys()


def test_a_race_at_another_size_has_a_larger_model():
    small, large = (task_of(Race("adamw; muon", "charlm", size=size)) for size in (1, 4))
    counts = [sum(p.numel() for p in task.model(0).parameters()) for task in (small, large)]
    assert 3 < counts[1] / counts[0] < 5


def evidence(outcomes, **more):
    outcomes = settled(outcomes)
    return Evidence("muon", {}, {}, {}, {}, outcomes, {}, conclude(outcomes), **more)


def test_the_sentence_says_what_an_answer_takes_and_how_the_gain_changes():
    missed = Outcome("sooner", Measured(1.2, 1.1, 1.3, unit="x"), False, "", False, "", experiments=("text",))
    shown = Outcome("oracle", Measured(0.75), True, "", False, "", positive=True, experiments=("text",))
    blind = replace(shown, met=None, takes="about 40 seeds")
    assert sentence(evidence([missed, shown])) == "not reproduced here"
    assert sentence(evidence([missed])) == (
        "not testable at this size; an answer would take a positive control in the same set-up"
    )
    assert sentence(evidence([missed, blind])).endswith("an answer would take about 40 seeds")
    grown = {"per doubling": Measured(1.04, 1.01, 1.08, unit="x"), "per step": Measured(1.0, 0.9, 1.1, unit="x")}
    said = sentence(evidence([replace(missed, met=True)], changes=grown))
    assert said == (
        "reproduced; per doubling: the ratio is multiplied by 1.04x [1.01, 1.08], the gain shrinks; "
        "per step: the ratio is multiplied by 1x [0.9, 1.1], no trend seen"
    )
    unknown = {"per doubling": Measured(math.nan, unit="x", undecided="too few seeds")}
    assert sentence(evidence([replace(missed, met=True)], changes=unknown)).endswith("can't say (too few seeds)")


def test_lengths_are_those_of_the_races():
    found = {
        "a": {"contenders": [], "task": {"steps": 2000, "parameters": 1000}},
        "b": {"contenders": [], "task": {"steps": 2000, "parameters": 1000}},
        "c": {"cases": []},
    }
    assert lengths(found) == "2,000 steps of 1,000 parameters (2 per parameter)"
