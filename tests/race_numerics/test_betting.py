"""Betting on paired differences: fair where there is no difference, at every seed at once, whatever the noise."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sooner.race import statistics

inf, nan = math.inf, math.nan
ALPHA = 0.05
NOISES = {
    "normal": lambda g, shape: g.standard_normal(shape),
    "student": lambda g, shape: g.standard_t(2, shape),
    "cauchy": lambda g, shape: g.standard_cauchy(shape),
    "many sizes": lambda g, shape: g.choice([-1, 1], shape) * np.exp(g.normal(0, 5, shape)),
    "growing": lambda g, shape: g.standard_normal(shape) * np.arange(1, shape[-1] + 1),
    "signs": lambda g, shape: g.choice([-1.0, 1.0], shape),
    "misses": lambda g, shape: g.choice([-inf, inf, -0.1, 0.1, 0.2, -0.2, nan], shape),
    "skewed pairs": lambda g, shape: g.exponential(size=shape) - g.exponential(size=shape),
}


def transcribed(differences):
    """The same bets written out with Python numbers, a seed, a share and a half at a time."""
    nodes, weights = statistics.betting._shares()
    owned = {(half, k): w / 2 for half in (0, 1) for k, w in enumerate(weights)}
    sizes, found = [], []
    for x in differences:
        if not math.isnan(x) and x != 0:
            if math.isfinite(x):
                sizes.append(abs(x))
                bold = math.tanh(abs(x) / (sum(math.sqrt(s) for s in sizes) / len(sizes)) ** 2)
            else:
                bold = 1.0
            for half, k in owned:
                owned[half, k] *= 1 + nodes[k] * math.copysign(1.0 if half == 0 else bold, x)
        found.append(sum(owned.values()))
    return found


@given(st.lists(st.one_of(st.floats(-100, 100), st.sampled_from([inf, -inf, nan, 0.0])), min_size=1, max_size=12))
def test_wealth_equals_the_bets_written_out(differences):
    differences = [x if abs(x) > 1e-9 else 0.0 for x in differences]
    np.testing.assert_allclose(statistics.wealth(differences), transcribed(differences), rtol=1e-9)


def test_a_bet_is_fair_whatever_came_before():
    """With either sign of the next difference, wealth is on average what it was: that is all the proof there is."""
    generator = np.random.default_rng(1)
    for _ in range(50):
        before = generator.normal(size=generator.integers(1, 20))
        size = abs(generator.normal())
        after = [statistics.wealth([*before, sign * size])[-1] for sign in (-1, 1)]
        assert np.mean(after) == pytest.approx(statistics.wealth(before)[-1])
    assert np.mean([statistics.wealth([sign * 0.3])[-1] for sign in (-1, 1)]) == pytest.approx(1.0)


@pytest.mark.parametrize("noise", NOISES)
def test_no_difference_is_found_at_any_of_two_hundred_looks_too_often(noise):
    """Type I error at the worst stopping time there is: the one that waits for a false alarm up to seed 200."""
    races = 1500
    differences = NOISES[noise](np.random.default_rng(2), (races, 200))
    alarms = int((statistics.wealth(differences).max(axis=1) >= 1 / ALPHA).sum())
    assert alarms <= stats.binom.ppf(0.999, races, ALPHA)


def test_what_is_forbidden_does_go_wrong():
    """The control: the exact test, asked after every seed without correction, calls far more than 5 % different."""
    differences = np.random.default_rng(3).standard_normal((200, 14))
    alarms = sum(min(statistics.sign_flip(x[:n]) for n in range(6, 15)) <= ALPHA for x in differences)
    assert alarms > stats.binom.ppf(0.999, 200, ALPHA)


def test_differences_are_found_and_clear_ones_soon():
    generator = np.random.default_rng(4)
    for shift, within, share in ((2.5, 8, 0.9), (1.5, 16, 0.95), (1.0, 32, 0.95), (0.5, 128, 0.95)):
        rich = statistics.wealth(generator.standard_normal((400, within)) + shift).max(axis=1) >= 1 / ALPHA
        assert rich.mean() >= share


@given(
    st.lists(st.floats(-3, 3).filter(lambda x: abs(x) > 1e-3), min_size=1, max_size=10),
    st.floats(1e-6, 1e6),
)
def test_p_ignores_scale_direction_and_empty_seeds_and_never_rises(differences, factor):
    p = statistics.betting_p(differences)
    assert 0 < p <= 1
    assert statistics.betting_p([factor * x for x in differences]) == pytest.approx(p)
    assert statistics.betting_p([-x for x in differences]) == pytest.approx(p)
    assert statistics.betting_p([*differences[:3], nan, *differences[3:]]) == pytest.approx(p)
    assert statistics.betting_p(differences[:-1]) >= p
    assert p >= statistics.smallest_betting_p(len(differences)) * (1 - 1e-12)


def test_p_of_nothing_and_of_misses():
    assert [statistics.betting_p(x) for x in ([], [nan, nan], [0.0] * 9, [0.4])] == [1, 1, 1, 1]
    assert (
        statistics.betting_p([inf] * 6) == statistics.smallest_betting_p(6) <= ALPHA < statistics.smallest_betting_p(5)
    )
    assert statistics.betting_p([-1.0] * 7) <= ALPHA < statistics.betting_p([-1.0] * 6)


@pytest.mark.parametrize("noise", ["normal", "student", "misses", "growing"])
def test_an_interval_leaves_out_no_difference_where_p_is_at_most_the_level(noise):
    generator = np.random.default_rng(5)
    for shift in (0.0, 0.4, -1.0):
        for _ in range(8):
            differences = NOISES[noise](generator, (20,)) + shift
            low, high = statistics.betting_interval(differences)
            p = statistics.betting_p(differences)
            if abs(p - ALPHA) > 1e-6:
                assert (low <= 0 <= high) == (p > ALPHA)


def test_intervals_cover_after_every_seed_at_once():
    generator = np.random.default_rng(6)
    races, lost = 40, 0
    for _ in range(races):
        differences = 0.2 + 0.15 * generator.standard_t(3, 24)
        ends = [statistics.betting_interval(differences[:n]) for n in (8, 16, 24)]
        lost += any(not low <= 0.2 <= high for low, high in ends)
    assert lost <= stats.binom.ppf(0.999, races, ALPHA)


def test_an_interval_only_shrinks_while_nothing_is_refuted_twice():
    differences = np.random.default_rng(7).normal(0.3, 1, 64)
    ends = [statistics.betting_interval(differences[:n]) for n in (8, 16, 32, 64)]
    for (low, high), (later_low, later_high) in itertools.pairwise(ends):
        assert low - 1e-6 <= later_low < later_high <= high + 1e-6
    low, high = statistics.betting_interval(differences, 0.8)
    assert ends[-1][0] < low < high < ends[-1][1]


def test_intervals_of_few_seeds_equal_differences_and_misses():
    assert statistics.betting_interval([0.1, 0.2, 0.3]) == (-inf, inf)
    assert statistics.betting_interval([]) == statistics.betting_interval([nan] * 9) == (-inf, inf)
    assert statistics.betting_interval([0.3] * 8) == pytest.approx((0.3, 0.3))
    assert statistics.betting_interval([inf] * 8) == (inf, inf)
    assert statistics.betting_interval([inf] * 5) == (-inf, inf)
    assert statistics.betting_interval([inf, -inf] * 8) == (-inf, inf)
    low, high = statistics.betting_interval([-0.5, -0.6, -0.5, -0.55, -0.52, -0.6, -0.5, -0.57, inf])
    assert -1 < low < high < 0
    low, high = statistics.betting_interval([-0.5, -0.6, -0.5, -0.55, -0.52, *[inf] * 4])
    assert math.isfinite(low)
    assert high == inf


@pytest.mark.parametrize("n", [12, 32])
def test_the_smallest_effect_is_found_in_80_percent_by_the_last_seed(n):
    effect = math.log(statistics.smallest_effect(0.15, n, ALPHA, every_seed=True))
    found = statistics.wealth(np.random.default_rng(8).normal(effect, 0.15, (2000, n))).max(axis=1) >= 1 / ALPHA
    assert found.mean() == pytest.approx(0.8, abs=0.04)
    assert math.exp(effect) < statistics.smallest_effect(0.15, n, ALPHA)  # looking always costs something
    assert statistics.smallest_difference(0.15, n, ALPHA, every_seed=True) == pytest.approx(-effect)
    assert statistics.smallest_difference(0.15, 6, ALPHA, every_seed=True) is None


def test_summaries_say_what_holds_after_every_seed():
    new, base = [50, 60, 55, 52, 58, 61, 49, 57, None], [100.0] * 9
    once, always = (statistics.ratio_summary(new, base, every_seed=every) for every in (False, True))
    assert once["ratio"] == always["ratio"]
    assert always["p"] == statistics.betting_p(statistics.paired_log_ratios(new, base))
    assert always["low"] <= once["low"] < once["high"] <= always["high"] < 1
    final = statistics.difference_summary([1.0 + 0.01 * i for i in range(9)], [1.5] * 9, every_seed=True)
    assert final["p"] <= ALPHA
    assert final["high"] < 0
