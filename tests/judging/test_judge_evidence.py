"""What pairs of runs say, in shares and units, with diverged runs and either direction."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sooner.error import SoonerError
from sooner.judging.evidence import BETTER, NO_GAIN, SAME, UNDECIDED, WORSE, Worth, decide, first_decision, gains
from sooner.race import statistics

inf, nan = math.inf, math.nan
VALUES = st.one_of(st.floats(0.1, 10), st.sampled_from([nan, inf]))


def x_of(baseline, candidate, higher=False, relative=True):
    return gains(baseline, candidate, higher_is_better=higher, relative=relative)


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=12), st.booleans(), st.booleans())
def test_exchanging_the_sides_exchanges_the_sign(pairs, higher, relative):
    b, c = zip(*pairs, strict=True)
    np.testing.assert_allclose(x_of(b, c, higher, relative), -x_of(c, b, higher, relative), rtol=0, atol=0)


def test_gains_in_shares_and_units():
    assert x_of([2.0], [1.9])[0] == pytest.approx(0.1 / 1.95)
    assert x_of([2.0], [1.9], higher=True)[0] == pytest.approx(-0.1 / 1.95)
    assert x_of([-2.0], [-2.1])[0] == pytest.approx(0.1 / 2.05)
    assert x_of([2.0], [1.9], relative=False)[0] == pytest.approx(0.1)
    assert x_of([0.0, 0.0], [0.0, 1.0]).tolist() == [0.0, -2.0]


@pytest.mark.parametrize("higher", [False, True])
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("lost", [nan, inf, -inf])
def test_a_diverged_run_is_infinitely_bad(higher, relative, lost):
    found = x_of([1.0, lost, lost], [lost, 1.0, lost], higher, relative)
    assert found[:2].tolist() == [-inf, inf]
    assert math.isnan(found[2])


def test_a_share_of_what_changes_its_sign_says_nothing():
    with pytest.raises(SoonerError, match=r"now positive and now negative.*--worth in its own unit"):
        x_of([0.1], [-0.1])
    assert x_of([0.1], [-0.1], relative=False)[0] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("gain", "both_sides", "outcome"),
    [(0.05, False, BETTER), (-0.05, False, WORSE), (-0.004, False, NO_GAIN), (0.0, True, SAME), (-0.05, True, WORSE)],
)
def test_outcomes(gain, both_sides, outcome):
    x = gain + 0.012 * np.random.default_rng(1).standard_normal(64)
    found = decide(x, 0.001, 0.01, both_sides)
    assert found.outcome == outcome
    assert found.seeds < 64
    assert found.low <= found.gain <= found.high
    assert (found.p, found.gain) == (statistics.betting_p(x[: found.seeds]), x[: found.seeds].mean())
    if outcome == SAME:
        assert found.low > -0.01
        assert found.high < 0.01


def test_it_can_take_too_long():
    x = 0.5 * np.random.default_rng(0).standard_normal(8)
    assert decide(x, 0.01, 0.01).outcome == UNDECIDED
    assert decide(x[:0], 0.01, 0.01).seeds == 0


def test_diverged_runs_decide_by_signs():
    x = np.array([-inf] * 20)
    assert first_decision(x, 0.01, 0.01)[0] == WORSE
    assert first_decision(-x, 0.01, 0.01)[0] == BETTER
    assert first_decision(np.full(20, nan), 0.01, 0.01) == (UNDECIDED, 20)


@given(st.lists(st.floats(-0.1, 0.1), min_size=1, max_size=30), st.integers(1, 30))
def test_what_is_decided_does_not_hang_on_what_comes_later(values, cut):
    x = np.array(values)
    early, late = first_decision(x[:cut], 0.05, 0.01), first_decision(x, 0.05, 0.01)
    assert early[0] == UNDECIDED or early == late


@pytest.mark.parametrize("text", ["x", "0%", "-1%", "nan", "100%", "inf", "", "0"])
def test_no_size_of_a_difference(text):
    with pytest.raises(SoonerError, match="no size of a difference"):
        Worth.read(text)


def test_sizes_in_words():
    assert (str(Worth.read("1%")), str(Worth.read(0.05)), str(Worth.read("2.5 %"))) == ("1 %", "0.05", "2.5 %")
