"""LORD++ and what a stream of candidates spends."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sooner.judging.stream import DECAY, level, share

Q = 0.05
ZETA = 2.2857656565  # zeta(1.6), from tables


def transcribed(p_values, q=Q):
    """LORD++ as in Ramdas et al., 2017: w0 gamma_t + (q - w0) gamma_(t - tau_1) + q sum_j gamma_(t - tau_j)."""
    gamma = [math.nan, *(j**-1.6 / ZETA for j in range(1, len(p_values) + 1))]
    w0, tau, levels = q / 2, [], []
    for t, p in enumerate(p_values, 1):
        alpha = w0 * gamma[t]
        if tau:
            alpha += (q - w0) * gamma[t - tau[0]]
        for at in tau[1:]:
            alpha += q * gamma[t - at]
        levels.append(alpha)
        if p <= alpha:
            tau.append(t)
    return levels


@given(st.lists(st.sampled_from([0.0, 1e-4, 0.01, 0.5, 1.0]), min_size=1, max_size=30))
def test_levels_are_those_of_the_paper(p_values):
    found, discoveries = [], []
    for number, p in enumerate(p_values, 1):
        found.append(level(number, discoveries, Q))
        if p <= found[-1]:
            discoveries.append(number)
    assert found == pytest.approx(transcribed(p_values), rel=1e-8)


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_no_more_is_spent_than_discoveries_have_earned(found):
    """The estimate that LORD++ keeps below q: all levels so far over the number of discoveries."""
    spent, discoveries = 0.0, []
    for number, is_one in enumerate(found, 1):
        spent += level(number, discoveries, Q)
        if is_one:
            discoveries.append(number)
        assert spent <= Q * max(1, len(discoveries)) + 1e-12


def test_shares_fall_and_sum_to_one():
    shares = [share(j) for j in range(1, 100_001)]
    assert shares == sorted(shares, reverse=True)
    rest = 100_000 ** (1 - DECAY) / (DECAY - 1) / ZETA
    assert sum(shares) + rest == pytest.approx(1, abs=1e-6)


def test_a_discovery_that_comes_late_counts_from_when_it_was_made():
    """Candidate 1 was found better while 3 had started: nothing that 2 and 3 were promised depends on it."""
    assert level(4, [3], Q) == pytest.approx(Q / 2 * share(4) + Q / 2 * share(1))
