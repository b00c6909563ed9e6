import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sooner.race import statistics

nan, inf = math.nan, math.inf
numbers = st.floats(-100, 100).map(lambda x: round(x, 3))
differences = st.lists(numbers, min_size=2, max_size=9)
steps = st.lists(st.one_of(st.none(), st.floats(1, 1e4)), min_size=2, max_size=8)


@given(st.lists(st.floats(-3, 3).filter(lambda x: abs(x) > 1e-3), min_size=2, max_size=7))
@settings(max_examples=25, deadline=None)
def test_sign_flip_equals_scipy(values):
    expected = stats.permutation_test(
        (np.array(values),), lambda x, axis: np.abs(x.sum(axis=axis)), permutation_type="samples", alternative="greater"
    )
    assert statistics.sign_flip(values) == pytest.approx(expected.pvalue)


@given(differences, st.floats(1e-6, 1e6), st.randoms(use_true_random=False))
def test_sign_flip_ignores_scale_sign_order_and_empty_seeds(values, factor, random):
    p = statistics.sign_flip(values)
    shuffled = random.sample(values, len(values))
    assert 2 ** (1 - len(values)) <= p <= 1
    assert statistics.sign_flip([factor * x for x in values]) == p
    assert statistics.sign_flip([-x for x in shuffled]) == p
    assert statistics.sign_flip([*values, nan]) == p
    assert statistics.sign_flip([*values, 0.0]) == p


def test_sign_flip_known_values():
    assert statistics.sign_flip([1.0] * 8) == 2**-7
    assert statistics.sign_flip([0.1 + 0.2, 0.3, -0.3, 0.6]) == statistics.sign_flip([0.3, 0.3, -0.3, 0.6])
    assert statistics.sign_flip([1e308] * 6) == 2**-5
    assert statistics.sign_flip([0.0] * 5) == 1
    assert [statistics.sign_flip(x) for x in ([], [5.0], [5.0, nan])] == [1, 1, 1]


def test_an_infinite_difference_makes_it_a_sign_test():
    values = [-0.1, -0.2, -5.0, -0.3, -0.1, -0.1, -0.2, inf]
    assert statistics.sign_flip(values) == pytest.approx(stats.binomtest(1, 8).pvalue)
    assert statistics.sign_flip([-inf] * 8) == 2**-7


def test_many_seeds_are_sampled_but_agree_with_the_exact_test():
    generator = np.random.default_rng(3)
    values = generator.normal(0.3, 1, 24)
    exact = stats.binomtest(int((values > 0).sum()), 24).pvalue
    assert statistics.sign_flip(np.sign(values)) == pytest.approx(exact, abs=0.006)
    assert statistics.sign_flip(values) == statistics.sign_flip(values)
    assert statistics.sign_flip(np.ones(40)) == statistics.smallest_p(40)


def test_pairs():
    new = [50.0, None, 10.0, nan, 0.0, 0.0]
    base = [100.0, 10.0, inf, None, 0.0, 5.0]
    expected = [math.log(0.5), inf, -inf, nan, 0.0, -inf]
    np.testing.assert_allclose(statistics.paired_log_ratios(new, base), expected)
    np.testing.assert_array_equal(
        statistics.paired_differences([1.0, nan, 2.0, None], [3.0, 1.0, inf, None]), [-2, inf, -inf, nan]
    )
    np.testing.assert_array_equal(statistics.paired_differences([None], [1.0], higher_is_better=True), [-inf])
    with pytest.raises(ValueError, match="same seeds"):
        statistics.paired_log_ratios([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="negative"):
        statistics.paired_log_ratios([-1.0], [1.0])


@given(steps, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_swapping_sides_inverts_the_ratio(new, random):
    base = random.sample(new, len(new))
    one, other = statistics.ratio_summary(new, base), statistics.ratio_summary(base, new)
    assert one["p"] == other["p"]
    if one["ratio"] and other["ratio"]:
        assert one["ratio"] == pytest.approx(1 / other["ratio"], rel=1e-6)
    assert one["hits"] == sum(s is not None for s in new)
    json.dumps(one, allow_nan=False)


def test_ratio_summary_without_misses_is_a_geometric_mean():
    summary = statistics.ratio_summary([50, 25, 50, 25, 40, 30], [100] * 6)
    assert summary["ratio"] == pytest.approx((0.5 * 0.25 * 0.5 * 0.25 * 0.4 * 0.3) ** (1 / 6))
    assert summary["low"] < summary["ratio"] < summary["high"] < 0.5
    assert (summary["p"], summary["hits"], summary["of"]) == (2**-5, 6, 6)


def test_one_miss_gives_a_median_and_keeps_the_interval_finite():
    summary = statistics.ratio_summary([50, 60, 55, 52, 58, 61, 49, None], [100] * 8)
    assert summary["ratio"] == pytest.approx(math.sqrt(0.55 * 0.58))
    assert summary["high"] is not None
    assert summary["p"] == pytest.approx(stats.binomtest(1, 8).pvalue)
    assert summary["steps"][-1] is None
    assert summary["hits"] == 7


def test_misses_on_both_sides_say_nothing():
    full = statistics.ratio_summary([50, 60, 55], [100, 100, 100])
    padded = statistics.ratio_summary([50, 60, 55, None], [100, 100, 100, None])
    assert [padded[k] for k in ("ratio", "low", "high", "p")] == [full[k] for k in ("ratio", "low", "high", "p")]
    nothing = statistics.ratio_summary([None, nan], [None, None])
    assert [nothing[k] for k in ("ratio", "low", "high", "p", "hits")] == [None, 0.0, None, 1.0, 0]


def test_a_contender_that_never_arrives_has_no_ratio():
    summary = statistics.ratio_summary([None] * 6, [100] * 6)
    assert [summary[k] for k in ("ratio", "low", "high", "p", "hits")] == [None, None, None, 2**-5, 0]


def test_wins_and_losses_by_misses_balance():
    assert statistics.center([-inf, inf]) == 0
    assert statistics.center([-inf, 0.5, inf]) == 0.5
    assert math.isnan(statistics.center([nan]))


@given(st.lists(numbers, min_size=2, max_size=9))
@settings(max_examples=40, deadline=None)
def test_interval_lies_inside_the_data_and_is_reproducible(values):
    low, high = statistics.interval(values)
    margin = 1e-9 * max(map(abs, values))
    assert min(values) - margin <= low <= high <= max(values) + margin
    assert statistics.interval(values) == (low, high)


def test_interval_of_degenerate_data():
    assert statistics.interval([0.3] * 5) == (0.3, 0.3)
    assert statistics.interval([inf, inf]) == (inf, inf)
    assert statistics.interval([0.3]) == statistics.interval([nan, nan]) == (-inf, inf)
    low, high = statistics.interval([0.1, 0.1, 0.1, 0.1 + 1e-16, 0.3 - 0.2])
    assert low == pytest.approx(high)


def test_a_higher_level_gives_a_wider_interval():
    values = np.random.default_rng(0).normal(size=8)
    narrow, wide = statistics.interval(values, 0.8), statistics.interval(values, 0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def coverage(truth, draw, runs):
    """Return how many of `runs` 95 % intervals hold the truth."""
    count = 0
    for _ in range(runs):
        low, high = statistics.interval(draw())
        count += low <= truth <= high
    return count


def binomial_band(chance, runs):
    """Return counts that a binomial variable leaves with a probability of one in a thousand."""
    return stats.binom.ppf(0.0005, runs, chance), stats.binom.ppf(0.9995, runs, chance)


def test_interval_of_a_mean_covers_it():
    generator = np.random.default_rng(11)
    count = coverage(0.2, lambda: generator.normal(0.2, 0.15, 8), 200)
    assert binomial_band(0.94, 200)[0] <= count


def test_interval_of_a_median_with_misses_covers_it():
    generator = np.random.default_rng(12)

    def draw():
        values = generator.normal(0.2, 0.15, 9)
        values[values > 0.4] = inf
        return values

    assert binomial_band(0.93, 200)[0] <= coverage(0.2, draw, 200)


def test_holm_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.6, 0.7]) == [1.0, 1.0]
    assert statistics.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_order_and_lies_between_plain_and_bonferroni(ps):
    adjusted = statistics.holm(ps)
    for p, q in zip(ps, adjusted, strict=True):
        assert p <= q <= min(1, len(ps) * p) + 1e-12
    order = np.argsort(ps, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)


@pytest.mark.parametrize("n", [6, 8])
def test_false_positives_stay_below_the_level(n):
    """With three contenders and no true difference, any verdict at all comes up in at most 5 % of the races."""
    generator = np.random.default_rng(21)
    races, false = 1000, 0
    for _ in range(races):
        base = generator.normal(size=n)  # shared by the contenders, as in a race
        ps = [statistics.sign_flip(generator.normal(size=n) - base) for _ in range(3)]
        false += min(statistics.holm(ps)) <= 0.05
    assert false <= binomial_band(0.05, races)[1]


def test_false_positives_with_misses_stay_below_the_level():
    generator = np.random.default_rng(22)
    races, false = 1000, 0
    for _ in range(races):
        new, base = (np.exp(generator.normal(size=8)) for _ in range(2))
        ratios = statistics.paired_log_ratios(*([v if v < 3 else None for v in side] for side in (new, base)))
        false += statistics.sign_flip(ratios) <= 0.05
    assert false <= binomial_band(0.05, races)[1]


@pytest.mark.parametrize(("n", "alpha"), [(6, 0.05), (8, 0.05), (8, 0.05 / 3), (12, 0.01)])
def test_smallest_effect_is_found_in_about_80_percent(n, alpha):
    generator = np.random.default_rng(31)
    effect = math.log(statistics.smallest_effect(0.15, n, alpha))
    found = sum(statistics.sign_flip(generator.normal(effect, 0.15, n)) <= alpha for _ in range(400))
    assert 0.72 <= found / 400 <= 0.88


@given(st.floats(0, 2), st.integers(2, 40), st.sampled_from([0.05, 0.0125, 0.001]))
def test_smallest_effect_is_a_ratio_when_the_seeds_suffice(sd, n, alpha):
    effect = statistics.smallest_effect(sd, n, alpha)
    if statistics.smallest_p(n) > alpha:
        assert effect is None
    else:
        assert 0 < effect <= 1
        assert effect == pytest.approx(statistics.smallest_effect(sd / 2, n, alpha) ** 2)


def test_smallest_effect_needs_a_finite_spread():
    assert statistics.smallest_effect(None, 8) is None
    assert statistics.smallest_effect(inf, 8) is None
    assert statistics.smallest_effect(nan, 8) is None


def test_spread():
    assert statistics.spread([0.0, 0.2, nan]) == pytest.approx(0.2 / math.sqrt(2))
    assert statistics.spread([0.1]) is None
    assert statistics.spread([-0.1, 0.0, 0.1, 0.2, 0.3, inf]) == pytest.approx(0.3 / 1.349 * math.sqrt(math.pi / 2))
    assert statistics.spread([0.1, 0.2, inf, inf]) is None


def test_the_spread_of_a_median_is_that_much_less_precise():
    generator = np.random.default_rng(41)
    values = generator.normal(0, 0.15, 4000)
    values[values > 0.15] = inf
    medians = [statistics.center(generator.permutation(values)[:25]) for _ in range(400)]
    assert statistics.spread(values) == pytest.approx(np.std(medians) * 5, rel=0.15)


def test_seeds_needed():
    assert [statistics.seeds_needed(c) for c in (1, 2, 3, 6, 7)] == [6, 7, 7, 8, 9]
    for contenders in range(1, 30):
        for looks in (1, 3):
            n = statistics.seeds_needed(contenders, 0.05 / looks)
            assert statistics.can_reach(n, contenders, 0.05 / looks)
            assert not statistics.can_reach(n - 1, contenders, 0.05 / looks)
    assert [statistics.seeds_needed(c, 0.05, every_seed=True) for c in (1, 2, 4)] == [6, 8, 9]


def test_difference_summary():
    summary = statistics.difference_summary([1.0, 2.0, 3.0], [1.5, 2.5, 3.4])
    assert summary["mean"] == 2
    assert summary["sd"] == pytest.approx(1)
    assert summary["difference"] == pytest.approx(-1.4 / 3)
    assert summary["low"] < summary["difference"] < summary["high"]
    assert summary["p"] == 0.25


def test_difference_summary_counts_a_diverged_run_as_worst():
    worse = statistics.difference_summary([nan, None, inf, 1.0], [1.0, 1.0, 1.0, 1.0])
    assert [worse[k] for k in ("mean", "sd", "difference", "high")] == [None] * 4
    assert worse["values"] == [None, None, None, 1.0]
    better = statistics.difference_summary([0.9] * 6, [None] * 6, higher_is_better=True)
    assert (better["p"], better["difference"]) == (2**-5, None)
    json.dumps([worse, better], allow_nan=False)
