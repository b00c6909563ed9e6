import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sooner.error import SoonerError
from sooner.race.targets import (
    confirmed_crossing,
    horizon_to_target,
    ladder,
    reachable,
    targets_anytime,
    targets_budgeted,
)

nan, inf = math.nan, math.inf


@pytest.mark.parametrize(
    ("values", "target", "expected"),
    [
        ([4, 3, 2, 1], 2.5, 15.0),  # halfway between the evaluations at 10 and 20
        ([4, 3, 2, 1], 3, 10.0),
        ([4, 3, 2, 1], 4, 0.0),  # the untrained model is already there
        ([4, 3, 2, 1], 1, None),  # the last evaluation has nothing to confirm it
        ([4, 3, 2, 1], 0.5, None),
        ([4, 1, 3, 1, 1], 2, 25.0),  # the first dip is not confirmed
        ([4, 1, nan, 1, 1], 2, 30.0),  # nothing to draw a line from
        ([inf, 1, 1], 2, 10.0),
        ([None, 1, 1], 2, 10.0),
        ([4, 1, None], 2, None),
        ([nan, nan, nan], 2, None),
        ([1], 2, None),
        ([], 2, None),
    ],
)
def test_confirmed_crossing(values, target, expected):
    assert confirmed_crossing([10 * i for i in range(len(values))], values, target) == expected


curve_values = st.lists(st.one_of(st.floats(-5, 5), st.sampled_from([nan, inf, None])), min_size=1, max_size=12)


@given(curve_values, st.floats(-5, 5), st.floats(0, 5))
def test_a_looser_target_is_never_reached_later(values, target, slack):
    steps = list(range(0, 10 * len(values), 10))
    tight, loose = confirmed_crossing(steps, values, target), confirmed_crossing(steps, values, target + slack)
    assert tight is None or (loose is not None and 0 <= loose <= tight)


@given(curve_values, st.integers(0, 120))
def test_what_is_reachable_is_crossed_in_time_and_nothing_lower_is(values, until):
    steps = list(range(0, 10 * len(values), 10))
    value = reachable(steps, values, until)
    if value == inf:
        return
    crossing = confirmed_crossing(steps, values, value)
    assert crossing is not None
    assert crossing <= until
    kept = [v for s, v in zip(steps, values, strict=True) if s <= until]
    assert confirmed_crossing(steps[: len(kept)], kept, value - 1e-9) is None


def test_reachable_needs_two_evaluations():
    assert reachable([0, 10, 20], [3, 2, 1], 20) == 2
    assert reachable([0, 10, 20], [3, 2, 1], 19) == 3
    assert reachable([0, 10, 20], [3, 2, 1], 9) == inf
    assert reachable([0, 10, 20], [nan, 2, 1], 10) == inf


def test_anytime_targets_are_what_nine_of_ten_runs_reach():
    steps = list(range(0, 101, 25))
    # run i falls by one per evaluation, from i; by 50, 75, 100 it has confirmed i-1, i-2, i-3
    curves = [(steps, [i, i - 1, i - 2, i - 3, i - 4]) for i in range(10, 20)]
    assert targets_anytime(curves, 100) == {"loose": 17, "middle": 16, "tight": 15}
    for name, value in targets_anytime(curves, 100).items():
        limit = {"loose": 50, "middle": 75, "tight": 100}[name]
        reached = [confirmed_crossing(steps, values, value) for _, values in curves]
        assert sum(step is not None and step <= limit for step in reached) >= 9


def test_diverged_runs_count_against_the_target():
    steps = [0, 50, 75, 100]
    good, bad = (steps, [3, 2, 1, 1]), (steps, [3, nan, nan, nan])
    assert targets_anytime([good] * 9 + [bad], 100)["tight"] == 1
    assert targets_anytime([good] * 8 + [bad] * 2, 100) == {"loose": None, "middle": None, "tight": None}
    assert targets_anytime([], 100) == {"loose": None, "middle": None, "tight": None}


@given(st.lists(st.lists(st.floats(-5, 5), min_size=9, max_size=9), min_size=1, max_size=12))
def test_targets_get_tighter(runs):
    targets = targets_anytime([(list(range(0, 90, 10)), run) for run in runs], 80)
    assert targets["loose"] >= targets["middle"] >= targets["tight"]


def test_ladder_in_steps():
    assert ladder(400) == [100, 140, 200, 280, 400, 560]
    assert ladder(2) == [1, 2, 3]


def test_budgeted_targets():
    finals = {200: list(range(20, 30)), 280: list(range(10, 20)), 400: [*range(9), None]}
    assert targets_budgeted(finals, 400) == {"loose": 28, "middle": 18, "tight": 8}
    # a longer run that ends higher does not loosen the target, a diverged one does not remove it
    assert targets_budgeted({200: [1.0], 280: [2.0], 400: [nan]}, 400) == {"loose": 1, "middle": 1, "tight": 1}
    assert targets_budgeted({200: [nan], 280: [None], 400: [0.5]}, 400) == {"loose": None, "middle": None, "tight": 0.5}
    with pytest.raises(SoonerError, match="280"):
        targets_budgeted({200: [1.0], 400: [1.0]}, 400)


@pytest.mark.parametrize(
    ("finals", "target", "expected"),
    [
        ([4, 3, 2, 1], 2.5, (200 * math.sqrt(2), False)),  # halfway in the logarithm from 200 to 400
        ([4, 3, 2, 1], 3, (200, False)),
        ([4, 3, 2, 1], 4, (100, True)),
        ([4, 3, 2, 1], 1, (800, False)),  # the longest horizon stands for itself
        ([4, 3, 2, 1], 0.5, (None, False)),
        ([4, 1, 3, 1], 2, (400 * math.sqrt(2), False)),  # the lucky second run is not confirmed
        ([1, 4, 3, 3], 2, (None, False)),
        ([4, None, 2, 2], 3, (400, False)),
        ([nan, inf, None, nan], 3, (None, False)),
        ([1, 1, 1, None], 2, (100, True)),
    ],
)
def test_horizon_to_target(finals, target, expected):
    horizon, bound = horizon_to_target([100, 200, 400, 800], finals, target)
    assert (horizon, bound) == (None if expected[0] is None else pytest.approx(expected[0]), expected[1])


@given(st.lists(st.floats(-5, 5), min_size=6, max_size=6), st.floats(-5, 5))
def test_horizons_stay_on_the_ladder(finals, target):
    horizon, bound = horizon_to_target(ladder(400), finals, target)
    assert horizon is None or 100 <= horizon <= 560 * (1 + 1e-12)
    assert not bound or horizon == 100
