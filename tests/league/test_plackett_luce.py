"""Strengths from partial rankings: the truth is found again, ties say nothing, and groups apart are told apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sooner.race.plackett_luce import PRIOR, Choices, Ranking, connected, ranks, strengths


def drawn(truth, present, generator):
    """One ranking of the contenders that are present, by the model itself (largest noisy strength first)."""
    noisy = {i: truth[i] + generator.gumbel() for i in present}
    return Ranking(tuple((f"{i}",) for i in sorted(noisy, key=noisy.get, reverse=True)))


def test_twelve_contenders_with_nine_in_ten_cells_missing():
    agreements = []
    for seed in range(20):
        generator = np.random.default_rng(seed)
        truth = np.linspace(0, 22, 12)
        rankings = [drawn(truth, np.flatnonzero(generator.random(12) < 0.1 + 1 / 12), generator) for _ in range(40 * 8)]
        names = [f"{i}" for i in range(12)]
        found = strengths(rankings, names)
        agreements.append(stats.kendalltau(truth, found).statistic)
    assert np.mean(agreements) >= 0.9


def test_two_contenders_have_the_odds_of_their_wins():
    rankings = [Ranking((("a",), ("b",)))] * 300 + [Ranking((("b",), ("a",)))] * 100
    a, b = strengths(rankings, ["a", "b"])
    assert a - b == pytest.approx(np.log(3), abs=1e-3)


def test_weights_count_like_repetitions():
    one = [Ranking((("a",), ("b",), ("c",)), 3.0), Ranking((("c",), ("a",)))]
    three = [Ranking((("a",), ("b",), ("c",)))] * 3 + [Ranking((("c",), ("a",)))]
    assert strengths(one, list("abc")) == pytest.approx(strengths(three, list("abc")), abs=1e-5)


def some_rankings(seed, names):
    """Rankings of four of the contenders each, with ties and weights; some say the same."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(30):
        a, b, c, d = generator.choice(names, 4, replace=False)
        tiers = ((a,), (b, c), (d,)) if generator.random() < 0.5 else ((a,), (b,), (c, d))
        found.append(Ranking(tiers, float(generator.integers(1, 4))))
    return [*found, *found[:10]]


def likelihood(theta, rankings, names):
    """The logarithm of the likelihood with its prior, written down once more, choice by choice."""
    strength = dict(zip(names, np.exp(theta), strict=True))
    value = -PRIOR / 2 * float(theta @ theta)
    for ranking in rankings:
        for i, tier in enumerate(ranking.tiers[:-1]):
            below = sum(strength[name] for later in ranking.tiers[i + 1 :] for name in later)
            value += ranking.weight * sum(np.log(strength[name] / (strength[name] + below)) for name in tier)
    return value


@pytest.mark.parametrize("seed", range(3))
def test_no_strengths_make_the_rankings_more_likely(seed):
    names, generator = list("abcdefgh"), np.random.default_rng(seed)
    rankings = some_rankings(seed, names)
    best = strengths(rankings, names)
    top = likelihood(best, rankings, names)
    for size in (1e-4, 1e-2, 1.0):
        for _ in range(20):
            step = generator.normal(size=len(names))
            assert likelihood(best + size * (step - step.mean()), rankings, names) < top


def test_weights_given_later_are_rankings_drawn_again():
    names, generator = list("abcdefgh"), np.random.default_rng(5)
    rankings = some_rankings(5, names)
    choices = Choices(rankings, names)
    start = choices.strengths([r.weight for r in rankings])
    for _ in range(5):
        drawn = generator.integers(0, len(rankings), len(rankings))
        weights = np.bincount(drawn, minlength=len(rankings)) * np.array([r.weight for r in rankings])
        again = strengths([rankings[i] for i in drawn], names)
        np.testing.assert_allclose(choices.strengths(weights, start), again, rtol=0, atol=1e-6)
    assert not choices.strengths(np.zeros(len(rankings))).any()


def test_equal_strengths_keep_their_order_whatever_the_last_digits():
    assert list(ranks(np.array([1.0, 2.0 + 1e-13, 2.0, 2.0 - 1e-13, 3.0]))) == [5, 2, 3, 4, 1]


def test_a_tie_says_nothing_about_those_in_it():
    theta = strengths([Ranking((("a", "b"), ("c", "d")))] * 4, list("abcd"))
    assert theta[0] == pytest.approx(theta[1], abs=1e-6)
    assert theta[2] == pytest.approx(theta[3], abs=1e-6)
    assert theta[0] > theta[2]
    assert strengths([Ranking((("a", "b"),))], ["a", "b"]) == pytest.approx([0, 0])


def test_one_that_never_lost_has_a_finite_strength():
    theta = strengths([Ranking((("a",), ("b",)))], ["a", "b"])
    assert np.isfinite(theta).all()
    assert list(ranks(theta)) == [1, 2]


@given(st.permutations(list("abcde")))
def test_one_ranking_is_found_again(order):
    theta = dict(zip("abcde", strengths([Ranking(tuple((name,) for name in order))] * 5, list("abcde")), strict=True))
    assert sorted("abcde", key=lambda name: -theta[name]) == order


def test_groups_that_no_comparison_joins():
    rankings = [
        Ranking((("a",), ("b",))),
        Ranking((("c",), ("d",))),
        Ranking((("d",), ("e",))),
        Ranking((("a", "c"),)),  # only a tie
    ]
    assert connected(rankings) == [["c", "d", "e"], ["a", "b"]]
    assert connected([]) == []
