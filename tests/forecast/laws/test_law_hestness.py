"""The three regions: what is a best guess is left out and said, what is not stays."""

import numpy as np
import pytest

from sooner.error import SoonerError
from sooner.forecast.laws.hestness import Hestness, data_for, model_size, regions
from sooner.forecast.table import table

TRUTH = (9.0, -0.25, 0.4)
SIZES = np.repeat(2.0 ** np.arange(6, 21), 2)


def curve(noise=0.0, seed=0, guess=np.inf, truth=TRUTH):
    shock = np.exp(noise * np.random.default_rng(seed).standard_normal(len(SIZES)))
    amount, exponent, floor = truth
    return table(tokens=SIZES, loss=np.minimum(amount * SIZES**exponent + floor, guess) * shock)


@pytest.mark.parametrize("known", [None, 1.6])
@pytest.mark.parametrize("noise", [0.0, 0.005])
def test_best_guesses_are_left_out_and_the_curve_found_behind_them(known, noise):
    fit = Hestness(best_guess=known).fit(curve(noise, guess=1.6), draws=5)
    guesses = int(np.sum(9.0 * SIZES**-0.25 + 0.4 > 1.6))
    dropped = len(SIZES) - len(fit.table)
    assert abs(dropped - guesses) <= 2, "to the size beside the knee"
    assert sum(note.startswith(f"small-data region: {dropped} rows") for note in fit.table.notes) == 1
    assert fit["beta_g"] == pytest.approx(-0.25, abs=0.04)


def test_a_table_is_searched_once():
    law = Hestness()
    once = law.table(curve(guess=1.6))
    assert len(law.table(once)) == len(once) < len(SIZES)
    assert len(law.table(curve(guess=1.6), target=False)) == len(SIZES), "rows to predict all stay"


@pytest.mark.parametrize("truth", [TRUTH, (3.0, -0.07, 1e-6), (50.0, -0.8, 0.2), (1e-9, -0.1, 2.0)])
def test_a_curve_without_a_small_data_region_keeps_its_rows(truth):
    for seed in range(20):
        rows = curve(0.01, seed, truth=truth)
        assert len(Hestness().table(rows)) == len(rows)


def test_nothing_but_guesses():
    with pytest.raises(SoonerError, match="nothing was learned yet"):
        Hestness(best_guess=2.3).fit(table(tokens=SIZES, loss=np.full(len(SIZES), 2.31)))


def test_data_for_a_target_error():
    needed = data_for(np.array(TRUTH), [0.6, 0.5])
    np.testing.assert_allclose(9.0 * needed**-0.25 + 0.4, [0.6, 0.5])
    draws = np.array([TRUTH, (9.0, -0.25, 0.55)])
    np.testing.assert_array_equal(np.isinf(data_for(draws, [0.6, 0.5])), [[False, False], [False, True]])
    with pytest.raises(SoonerError, match=r"no amount of data reaches 0\.3"):
        data_for(np.array(TRUTH), 0.3)


def test_the_power_law_ends_where_the_irreducible_error_is_half():
    found = regions(Hestness().fit(curve(), draws=2))
    assert found.begins == SIZES[0]
    assert 9.0 * found.ends**-0.25 == pytest.approx(0.4, rel=1e-3)


def test_the_best_model_grows_with_the_data():
    sizes, models = np.meshgrid(10.0 ** np.arange(3, 7), np.geomspace(1e2, 1e7, 60))
    suited = 4.0 * sizes**0.7
    rows = table(tokens=sizes.ravel(), parameters=models.ravel(), loss=1 + np.log(models / suited).ravel() ** 2)
    law = model_size(rows)
    assert law.beta_p == pytest.approx(0.7, abs=0.02)
    assert law.at(1e5) == pytest.approx(4.0 * 1e5**0.7, rel=0.1)
    with pytest.raises(SoonerError, match="two or more values of tokens"):
        model_size(rows.where(rows["tokens"] == 1e3))
