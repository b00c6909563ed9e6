"""Who proposes settings: equally many for everybody, within the ranges, and the same again when a race is resumed."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_races import Notes, cells, numbers, small_plan
from test_engines import Anyhow

from sooner.error import SoonerError
from sooner.race import tuning
from sooner.race.journal import read
from sooner.race.referee import run
from sooner.race.tuners import NAMES, tuner
from sooner.race.tuning import best_so_far
from sooner.space import Choice, Log, Uniform

RECIPES = ("sgd(lr=log(0.01, 0.1))", "sgd(lr=log(0.01, 0.1), momentum=uniform(0.0, 0.9))", "sgd(lr=0.03)")
SPACE = {"lr": Log(1e-4, 1e-1), "momentum": Uniform(0.0, 0.9), "nesterov": Choice(True, False, None)}
DEFAULT = {"lr": 1.0, "momentum": 0.5, "nesterov": False, "other": 3}
"""Its learning rate lies outside the range."""


def test_an_unknown_tuner_is_refused_with_the_nearest():
    with pytest.raises(
        SoonerError, match=r"tuner 'optuna:tpo' is unknown \(did you mean 'optuna:tpe'\?\); choose halt"
    ):
        tuner("optuna:tpo", 0)


def test_without_optuna_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SoonerError, match=r"optuna is not installed: pip install 'sooner\[optuna\]', or tune without"):
        tuner("optuna", 0)


def test_the_default_proposes_what_it_always_did():
    halton = tuner("halton", 0)
    assert halton.rounds(6) == [6]
    assert halton.propose(SPACE, DEFAULT, [], [], 6, 0) == tuning.trials(SPACE, DEFAULT, 6)
    assert halton.identity() == {}


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_sampler_stays_in_the_ranges_and_proposes_the_same_from_the_same(name):
    pytest.importorskip("optuna")
    made, again = tuner(name, 7), tuner(name, 7)
    points = tuning.trials(SPACE, DEFAULT, 4)

    @settings(max_examples=5)
    @given(st.lists(st.one_of(st.none(), st.floats(-3, 3), st.just(math.inf)), min_size=4, max_size=4))
    def holds(values):
        scores = [None if value is None else (value, value) for value in values]
        (found,) = made.propose(SPACE, DEFAULT, points, scores, 1, 1)
        assert again.propose(SPACE, DEFAULT, points, scores, 1, 1) == [found]
        assert 1e-4 <= found["lr"] <= 1e-1
        assert 0 <= found["momentum"] <= 0.9
        assert found["nesterov"] in (True, False, None)
        assert found["other"] == 3
        assert {type(value) for value in found.values()} <= {float, bool, int, type(None)}

    holds()


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_sampler_learns(name):
    """On a valley in one knob, its later half comes nearer than the points that everybody tries."""
    pytest.importorskip("optuna")
    space, default = {"lr": Log(1e-5, 1.0)}, {"lr": 0.01}

    def height(tried):
        return abs(math.log10(tried["lr"]) + 3.3)

    def lowest(who, count=16):
        made, tried = tuner(who, 0), []
        for number, size in enumerate(made.rounds(count)):
            tried += made.propose(space, default, tried, [(height(one), 0.0) for one in tried], size, number)
        assert len(tried) == count
        return min(map(height, tried))

    assert lowest(name) < lowest("halton")


def test_a_race_that_is_resumed_proposes_the_same_again(tmp_path):
    pytest.importorskip("optuna")
    options = {"tune": 4, "looks": (6,), "tuner": "optuna"}
    plan = small_plan(tmp_path / "whole", *RECIPES, **options)
    whole = run(plan, None, Anyhow(0))
    for stop in (4, 9, 14):
        with pytest.raises(KeyboardInterrupt):
            run(small_plan(tmp_path / "cut", *RECIPES, **options), Notes(stop_after=stop), Anyhow(stop))
    cut = run(small_plan(tmp_path / "cut", *RECIPES, **options), None, Anyhow(1))
    assert numbers(cut) == numbers(whole)
    assert cells(read(tmp_path / "cut")) == cells(read(tmp_path / "whole"))
    counts = {len(c["tuning"]["trials"]) for c in whole["contenders"][:2]}
    assert counts <= {5, 7}
    assert len(counts) == 1
    assert len(whole["contenders"][2]["tuning"]["trials"]) == 1
    scores = [trial["score"] for trial in whole["contenders"][0]["tuning"]["trials"]]
    assert whole["contenders"][0]["tuning"]["expected_best"] == best_so_far(scores)
    with pytest.raises(SoonerError, match="holds another race, which differs in tuner: "):
        run(small_plan(tmp_path / "cut", *RECIPES, **{**options, "tuner": "halton"}), None, Anyhow(1))


def test_the_best_so_far_passes_over_what_diverged():
    assert best_so_far([None, 3.0, math.nan, 2.0, 5.0]) == [None, 3.0, 3.0, 2.0, 2.0]
    assert best_so_far([1.0, 4.0], higher_is_better=True) == [1.0, 4.0]
