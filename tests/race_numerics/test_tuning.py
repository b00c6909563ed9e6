import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sooner.error import SoonerError
from sooner.race.tuning import best, edges, expected_best, trials, unit_points, widening
from sooner.space import Choice, Log, Uniform

SPACE = {"lr": Log(1e-4, 1e-1), "momentum": Uniform(0.5, 0.99), "nesterov": Choice(True, False)}
DEFAULT = {"lr": 1e-3, "momentum": 0.9, "nesterov": False}


def rates(*values):
    return [{"lr": value} for value in values]


def finals(*values):
    return [None if value is None else (value, value) for value in values]


@given(st.integers(1, 12), st.integers(0, 12))
def test_trials_are_nested_in_range_and_start_with_the_default(count, more):
    short, long = trials(SPACE, DEFAULT, count), trials(SPACE, DEFAULT, count + more)
    assert len(short) == count
    assert long[:count] == short
    assert short[0] == DEFAULT
    assert all(1e-4 < t["lr"] < 1e-1 and 0.5 < t["momentum"] < 0.99 for t in long[1:])


@given(st.integers(1, 10), st.integers(1, 10))
def test_a_second_round_continues_the_first(first, second):
    both = trials(SPACE, DEFAULT, first) + trials(SPACE, DEFAULT, second, start=first)
    assert both == trials(SPACE, DEFAULT, first + second)


@pytest.mark.parametrize("count", range(4, 9))
def test_few_trials_of_one_knob_cover_the_range(count):
    inner = sorted(unit_points(1, 1, count)[:, 0])
    gaps = np.diff([0, *inner, 1])
    assert gaps.max() <= 1 / 4
    assert gaps.min() >= 1 / 8


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_every_seven_points_leave_no_third_of_a_knob_empty(dimension):
    for column in unit_points(dimension, 1, 8).T:
        assert set((column * 3).astype(int)) == {0, 1, 2}


def test_contenders_of_equal_dimension_get_the_same_points():
    one = trials({"lr": Log(1e-4, 1e-2)}, {"lr": 1e-3}, 6)[1:]
    other = trials({"rate": Log(1e-1, 1e1)}, {"rate": 1.0}, 6)[1:]
    assert [t["rate"] for t in other] == pytest.approx([t["lr"] * 1e3 for t in one], rel=1e-9)


def test_an_empty_space_has_only_its_default_to_try():
    assert trials({}, {"beta": 0.9}, 5) == [{"beta": 0.9}]
    assert trials({}, {"beta": 0.9}, 5, start=5) == []


def test_entries_without_a_knob_are_kept():
    assert all(t["eps"] == 1e-8 for t in trials({"lr": Log(1e-3, 1)}, {"lr": 0.1, "eps": 1e-8}, 4))


def test_bad_requests_are_refused():
    with pytest.raises(SoonerError, match="no default"):
        trials(SPACE, {"lr": 0.1}, 3)
    with pytest.raises(SoonerError, match="at least one"):
        trials(SPACE, DEFAULT, 0)


def test_best_prefers_final_then_mean_then_the_earlier():
    tried = rates(1, 2, 3, 4)
    assert best(tried, [(2.0, 0.0), (1.0, 5.0), (1.0, 4.0), None]) == {"lr": 3}
    assert best(tried, [(1.0, 4.0), (1.0, 4.0), (1.0, math.nan), (math.nan, 0.0)]) == {"lr": 1}
    assert best(tried, [None, (math.nan, 1.0), (math.inf, 1.0), None]) is None


@pytest.mark.parametrize(
    ("values", "scores", "expected"),
    [
        ((0.01, 0.03, 0.1), (3, 2, 1), {"lr": "high"}),
        ((0.01, 0.03, 0.1), (1, 2, 3), {"lr": "low"}),
        ((0.01, 0.03, 0.1), (2, 1, 3), {}),
        ((0.01, 0.03, 0.1), (2, 1, None), {}),  # the diverged trial brackets the best one
        ((0.01, 0.03, 0.1), (None, 1, 2), {}),
        ((0.01, 0.03, 0.03), (2, 1, 1.5), {"lr": "high"}),
        ((0.01, 0.01), (2, 1), {}),  # one value tried: not tuned
        ((0.01,), (1,), {}),
        ((0.01, 0.1), (None, None), {}),
        ((0.0, 0.01, 0.1), (1, 2, 3), {}),  # 0 has nothing below it on a logarithmic range
        ((0.0, 0.01, 0.1), (2, 1, 3), {}),
    ],
)
def test_edges_of_one_knob(values, scores, expected):
    assert edges({"lr": Log(0.01, 0.1)}, rates(*values), finals(*scores)) == expected


def test_linear_knobs_and_choices_have_no_edges():
    tried = [{"lr": 0.1, "m": 0.1, "c": 1}, {"lr": 0.01, "m": 0.5, "c": 2}, {"lr": 1.0, "m": 0.9, "c": 3}]
    space = {"lr": Log(0.01, 1), "m": Uniform(0, 1), "c": Choice(1, 2, 3)}
    assert edges(space, tried, finals(1, 2, 3)) == {}
    assert edges(space, tried, finals(3, 2, 1)) == {"lr": "high"}


@given(st.permutations([0.001, 0.003, 0.01, 0.03, 0.1]), st.permutations(range(5)))
def test_an_edge_is_found_exactly_when_nothing_lies_beyond(values, scores):
    found = edges({"lr": Log(0.001, 0.1)}, rates(*values), finals(*map(float, scores)))
    winner = values[scores.index(0)]
    assert found == ({"lr": "low"} if winner == 0.001 else {"lr": "high"} if winner == 0.1 else {})


def test_widening_goes_beyond_the_best_value():
    space = {"lr": Log(1e-4, 1e-2), "momentum": Uniform(0, 1)}
    wide = widening(space, {"lr": "high"}, {"lr": 5e-3, "momentum": 0.9})
    assert wide["momentum"] == space["momentum"]
    assert (wide["lr"].low, wide["lr"].high) == (5e-3, pytest.approx(0.1))
    low = widening(space, {"lr": "low"}, {"lr": 2e-4, "momentum": 0.9})["lr"]
    assert (low.low, low.high) == (pytest.approx(1e-5), 2e-4)
    assert widening(space, {}, {"lr": 1e-3, "momentum": 0.9}) == space


def test_widening_starts_from_a_default_outside_the_range():
    wide = widening({"lr": Log(1e-3, 1e-1)}, {"lr": "high"}, {"lr": 1.0})["lr"]
    assert (wide.low, wide.high) == (1.0, pytest.approx(10.0))


@given(st.sampled_from(["low", "high"]), st.integers(1, 8))
def test_all_trials_of_a_widened_knob_lie_beyond_the_best(side, count):
    space, default = {"lr": Log(1e-4, 1e-2)}, {"lr": 1e-3}
    first = trials(space, default, 5)
    order = sorted(t["lr"] for t in first)
    winner = {"lr": order[0] if side == "low" else order[-1]}
    extra = trials(widening(space, {"lr": side}, winner), default, count, start=5)
    assert len(extra) == count
    assert all(t["lr"] < winner["lr"] if side == "low" else t["lr"] > winner["lr"] for t in extra)


def test_only_logarithmic_knobs_are_widened():
    with pytest.raises(SoonerError, match="cannot be widened"):
        widening({"m": Uniform(0, 1)}, {"m": "low"}, {"m": 0.1})


@given(st.lists(st.one_of(st.none(), st.floats(-10, 10)), min_size=1, max_size=7), st.booleans())
def test_expected_best_equals_enumeration(scores, higher):
    choose, worst = (max, -math.inf) if higher else (min, math.inf)
    values = [worst if s is None else s for s in scores]
    for k, got in enumerate(expected_best(scores, higher), start=1):
        subsets = [choose(subset) for subset in itertools.combinations(values, k)]
        if any(math.isinf(value) for value in subsets):
            assert got is None
        else:
            assert got == pytest.approx(sum(subsets) / len(subsets), abs=1e-9)


def test_expected_best_treats_nan_as_diverged():
    assert expected_best([math.nan, 2.0, 1.0]) == [None, pytest.approx(4 / 3), 1.0]
    assert expected_best([None, None]) == [None, None]
    assert expected_best([]) == []
