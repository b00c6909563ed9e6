"""Two procedures compared, and the best schedule under a law."""

import numpy as np
import pytest

from sooner.error import SoonerError
from sooner.forecast.decide.best_schedule import best_schedule
from sooner.forecast.decide.compare import compare, crossing
from sooner.forecast.fit import fit
from sooner.forecast.laws import find
from sooner.forecast.schedules import parse
from sooner.forecast.table import join, table


def procedure(floor, amount, seed, high=1e21):
    compute = np.geomspace(1e18, high, 14)
    shock = np.exp(0.001 * np.random.default_rng(seed).standard_normal(14))
    return table(compute=compute, loss=(floor + amount * (compute / 1e18) ** -0.2) * shock)


def test_the_crossing_of_two_procedures():
    # 2 + x^-.2 meets 1.9 + 1.4 x^-.2 where x^-.2 is 1/4
    made = compare(procedure(2.0, 1.0, 1), procedure(1.9, 1.4, 2))
    truth = 1e18 * 4**5
    assert made.crossing.value == pytest.approx(truth, rel=0.5)
    assert made.crossing.low <= truth <= made.crossing.high
    assert made.crossing.share > 0.9
    assert made.difference[0] > 0 > made.difference[-1]
    assert made.first_better[0] == 1
    assert made.first_better[-1] < 0.05
    assert (made.low <= made.difference + 1e-9).all()


def test_one_that_wins_everywhere_does_not_cross():
    made = compare(procedure(2.0, 1.0, 1), procedure(2.2, 1.0, 2))
    assert made.crossing.value is None
    assert (made.difference > 0).all()
    assert made.first_better.min() > 0.9


def test_far_beyond_the_measurements_it_is_said():
    made = compare(procedure(2.0, 1.0, 1), procedure(2.2, 1.0, 2), to=1e24)
    assert any("1000 times what both were measured at" in warning for warning in made.warnings)


def test_the_last_change_of_sign_counts():
    at = np.geomspace(1.0, 1e4, 5)
    made = crossing(at, np.array([1.0, -1, 1, 1, -1]), np.array([[1.0, -1, 1, 1, -1], [1, 1, 1, 1, 1]]))
    assert made.value == pytest.approx(10**3.5)
    assert made.share == 0.5


def test_a_comparison_refuses_what_it_cannot_compare():
    one = procedure(2.0, 1.0, 1)
    with pytest.raises(SoonerError, match="compared along compute alone"):
        compare(one, one, law=find("chinchilla"))
    with pytest.raises(SoonerError, match="'tokens' is missing"):
        compare(one, one, over="tokens")
    with pytest.raises(SoonerError, match="ends before the measurements"):
        compare(one, one, to=1e10)


def curves(*schedules, total=4000):
    law, truth = find("annealing"), np.array([[2.5, 0.6, 0.5, 0.5]])
    made = []
    for text in schedules:
        steps = np.arange(200.0, total + 1, 50)
        rows = table(text, step=steps, lr=parse(text, total=total).lr(steps))
        shock = np.exp(0.0005 * np.random.default_rng(len(text)).standard_normal(len(steps)))
        made.append(rows.plus(loss=law.predict(truth, law.prepare(rows))[0] * shock))
    return join(made)


@pytest.fixture(scope="module")
def fitted():
    return fit(find("annealing"), curves("cosine:peak=1e-3,warmup=100", "constant:peak=1e-3,warmup=100"), draws=60)


def test_the_best_schedule_stays_high_and_then_falls(fitted):
    made = best_schedule(fitted, 4000, warmup=100)
    losses = [one.loss for one in made.candidates]
    assert losses == sorted(losses)
    free = next(one for one in made.candidates if one.schedule == "free")
    assert free.loss <= losses[0] + 1e-9
    assert made.lr.max() <= 1e-3 + 1e-12
    assert (np.diff(made.lr[made.step >= 100]) <= 1e-12).all()
    middle = float(np.interp(2000, made.step, made.lr))
    assert middle > 0.8e-3 > 0.4e-3 > made.lr[-1]
    assert free.low <= free.gain <= free.high
    assert free.gain > 0


def test_no_random_schedule_beats_the_free_one(fitted):
    made = best_schedule(fitted, 4000, warmup=100)
    best = made.candidates[0].loss
    random = np.random.default_rng(0)
    for _ in range(200):
        rates = np.sort(random.random(len(made.step)))[::-1] * 1e-3
        rows = table("x", step=made.step, lr=np.where(made.step < 100, made.lr, rates))
        assert fitted.at(rows)[-1] > best - 1e-6


def test_doubts_about_a_schedule(fitted):
    made = best_schedule(fitted, 90_000, peak=3e-3, warmup=100)
    assert any("90000 steps are 22 times" in one for one in made.warnings)
    assert any("knows no best peak" in one for one in made.warnings)


def test_a_schedule_refuses_what_cannot_be(fitted):
    with pytest.raises(SoonerError, match="does not read learning rates"):
        best_schedule(fit(find("power_floor", "step"), curves("constant:peak=1e-3"), draws=20), 100)
    with pytest.raises(SoonerError, match="must exceed the warm-up"):
        best_schedule(fitted, 100, warmup=100)
    with pytest.raises(SoonerError, match="peak learning rate is -1"):
        best_schedule(fitted, 1000, peak=-1)
