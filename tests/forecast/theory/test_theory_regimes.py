"""Regimes of scaling, intrinsic dimension, monotone trends, one-epoch sizing and the pruning envelope."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sooner.error import SoonerError
from sooner.forecast.table import table
from sooner.forecast.theory.data_pruning import pruning_envelope
from sooner.forecast.theory.monotone import shape
from sooner.forecast.theory.one_epoch import best_ratio, one_epoch
from sooner.forecast.theory.regimes import intrinsic_dimension, regime


@pytest.mark.parametrize(("exponent", "limit"), [(1.0, "variance-limited"), (0.3, "resolution-limited")])
def test_a_regime_is_told_by_its_exponent(exponent, limit):
    size = np.geomspace(1e3, 1e6, 40)
    noise = np.random.default_rng(0).standard_normal(40)
    found = regime(table(tokens=size, loss=(1 + 50 * (size / 100) ** -exponent) * np.exp(0.0005 * noise)), "tokens")
    assert found.limit == limit
    assert found.exponent == pytest.approx(exponent, abs=0.02)
    assert found.low <= found.exponent <= found.high
    assert (found.dimension is None) == (limit == "variance-limited")


def test_a_resolution_limited_exponent_speaks_of_a_dimension():
    size = np.geomspace(1e3, 1e7, 30)
    assert regime(table(tokens=size, loss=1 + 9 * size**-0.4), "tokens").dimension == pytest.approx(10, rel=0.02)


def test_a_regime_needs_three_scales():
    with pytest.raises(SoonerError, match="three or more values of tokens; there are 2"):
        regime(table(tokens=[1e3, 1e4], loss=[2.0, 1.0]), "tokens")


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_the_intrinsic_dimension_of_a_flat_sheet_in_many_features(dimension):
    random = np.random.default_rng(1)
    sheet = random.random((2000, dimension)) @ random.standard_normal((dimension, 12))
    found, error = intrinsic_dimension(np.concatenate([sheet, sheet[:50]]))
    assert found == pytest.approx(dimension, rel=0.12)
    assert 0 < error < 0.05 * found


def test_a_dimension_needs_points_that_differ():
    with pytest.raises(SoonerError, match="there are 1 different points"):
        intrinsic_dimension(np.ones((50, 3)))
    with pytest.raises(SoonerError, match=r"share to discard is 1\b"):
        intrinsic_dimension(np.eye(20), discard=1.0)


@pytest.mark.parametrize(
    ("curve", "trend", "extrapolate"),
    [
        (lambda z: 0.1 * z, "rising", True),
        (lambda z: -0.1 * z, "falling", True),
        (lambda z: 0.05 * (z - 18) ** 2, "U-shaped", False),
        (lambda z: -0.05 * (z - 18) ** 2, "inverted U", False),
        (lambda z: 0 * z, "flat", False),
    ],
)
def test_trends_are_told_apart(curve, trend, extrapolate):
    scale = np.geomspace(1e6, 1e10, 8)
    noise = 0.01 * np.random.default_rng(2).standard_normal(8)
    found = shape(scale, curve(np.log(scale)) + noise)
    assert found.trend == trend
    assert found.extrapolate is extrapolate
    assert (found.turn is not None) == ("U" in trend)
    if found.turn:
        assert np.log(found.turn) == pytest.approx(18, abs=0.3)


def test_two_scales_are_too_few_and_scores_must_be_numbers():
    assert shape(np.array([1e6, 1e7]), np.array([0.1, 0.2])).trend == "too few scales"
    with pytest.raises(SoonerError, match="scores that are numbers"):
        shape(np.array([1.0, 2.0, 3.0]), np.array([1.0, np.nan, 2.0]))


@settings(max_examples=50, deadline=None)
@given(st.floats(1e5, 1e12), st.floats(1e6, 1e14), st.floats(1, 100))
def test_one_epoch_keeps_the_compute_and_meets_the_ratio(parameters, tokens, ratio):
    made = one_epoch(parameters, tokens, unique_tokens=tokens / 4, batch=1e5, ratio=ratio)
    assert made.compute == pytest.approx(6 * parameters * tokens, rel=1e-9)
    assert made.tokens / made.parameters == pytest.approx(ratio, rel=1e-9)
    assert made.steps == pytest.approx(made.tokens / 1e5)
    assert made.more_data == pytest.approx(made.tokens / (tokens / 4))


def test_the_best_ratio_is_where_the_parabola_is_lowest():
    size = np.geomspace(1e7, 1e9, 9)
    tokens = 1e18 / 6 / size
    loss = 3 + 0.1 * (np.log(size) - np.log(9e7)) ** 2 + 0.001 * np.random.default_rng(3).standard_normal(9)
    ratio, low, high = best_ratio(size, tokens, loss)
    assert ratio == pytest.approx(1e18 / 6 / 9e7**2, rel=0.1)
    assert low < ratio < high


def test_one_epoch_refuses_what_has_no_answer():
    with pytest.raises(SoonerError, match="batch is 0"):
        one_epoch(1e6, 1e8, unique_tokens=1e8, batch=0)
    size = np.geomspace(1e7, 1e9, 5)
    with pytest.raises(SoonerError, match="no lowest point"):
        best_ratio(size, 1e18 / size, -((np.log(size) - 18) ** 2))
    with pytest.raises(SoonerError, match="budgets differ"):
        best_ratio(size, size, np.ones(5))
    with pytest.raises(SoonerError, match="four or more model sizes at one budget; there are 1"):
        best_ratio(np.ones(5), np.ones(5), np.ones(5))


def pruned(beats):
    total = np.repeat(np.geomspace(1e3, 1e6, 7), 4)
    share = np.tile([1.0, 0.6, 0.3, 0.15], 7)
    kept = total * share
    error = kept**-0.3
    if beats:  # the more data, the more can be spared
        error = np.where(share < 1, kept**-0.3 * (total / 1e3) ** -0.25, error)
    return total, share, error


def test_an_envelope_beats_the_power_law_or_says_that_it_does_not():
    better, same = (pruning_envelope(*pruned(beats), hard=np.ones(28)) for beats in (True, False))
    assert better.beats
    assert not same.beats
    assert better.unpruned == pytest.approx(0.3, abs=1e-6)
    assert better.keep_hard is True
    assert (np.diff(better.error) < 0).all()
    assert (np.diff(better.kept) > 0).all()


def test_an_envelope_needs_runs_without_pruning():
    with pytest.raises(SoonerError, match="share 1"):
        pruning_envelope(np.array([1e3, 1e4]), np.array([0.5, 0.5]), np.array([0.2, 0.1]))
    with pytest.raises(SoonerError, match=r"kept share is 1\.5"):
        pruning_envelope(np.array([1e3]), np.array([1.5]), np.array([0.2]))
