"""When a target is reached: chances against draws by hand, what advice loses, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sooner.cli.forecast.worth import Worth
from sooner.error import SoonerError
from sooner.forecast import Curve, Prediction, table, when
from sooner.report.forecast import waits

WIDTH = 1.6448536269514722  # of a normal distribution's 90 %


def forecast(spread=0.02, end=200, slope=-0.3):
    """A run up to step 100, and a forecast as a power law whose logarithm is off by one normal shock."""
    step = np.arange(1.0, end + 1)
    value = 4 * step**slope
    band = np.exp(WIDTH * spread)
    made = Prediction(value, value / band, value * band, 0.9)
    return Curve("a law", "as it is", step, np.full(end, np.nan), made, None, {}, [])


def run(seconds=None, until=100):
    step = np.arange(1.0, until + 1)
    more = {} if seconds is None else {"seconds": seconds * step + 7}
    return table("mine", step=step, loss=4 * step**-0.3, **more)


def test_chance_and_steps_are_those_of_many_runs():
    found = when(forecast(), run(), 0.9)
    shock = np.random.default_rng(0).standard_normal(40_000) * 0.02
    first = np.ceil((0.9 * np.exp(-shock) / 4) ** (-1 / 0.3))  # where 4 s^-.3 e^shock meets the target
    assert found.chance == pytest.approx((first <= 200).mean(), abs=0.01)
    assert found.steps[:2] == pytest.approx(np.quantile(first, [0.05, 0.5]), abs=1.5)
    assert found.ahead == pytest.approx(np.minimum(first, 200).mean() - 100, rel=0.02)
    for worth in (20.0, 60.0, 200.0):
        gained = np.where(first <= 200, worth - (first - 100), -100)
        choice = found.choose(worth)
        assert choice.go == (gained.mean() > 0)
        assert choice.regret_going == pytest.approx((np.maximum(gained, 0) - gained).mean(), rel=0.1, abs=0.5)
        assert choice.regret_stopping == pytest.approx(np.maximum(gained, 0).mean(), rel=0.1, abs=0.5)


@given(st.floats(0.5, 1.5), st.floats(0.001, 0.2), st.floats(1, 1e6))
def test_what_pays_is_what_is_advised(target, spread, worth):
    found = when(forecast(spread), run(), target)
    low, middle, high = found.steps
    assert low <= middle <= high
    assert 0 < found.chance <= 1
    assert np.all(np.diff(found.by) >= 0)
    if found.reached:
        assert found.choose(worth).go is False
    else:
        # a step is where the chances jump, so the two sides of the balance meet within one of them
        assert found.choose(found.pays_from * 1.05 + 1).go
        assert not found.choose(max(found.pays_from * 0.95 - 1, 1e-3)).go


def test_a_target_that_is_reached_says_so_and_is_not_run_for():
    found = when(forecast(), run(), 1.5)
    assert found.reached
    assert (found.ahead, found.steps) == (0.0, (100.0, 100.0, 100.0))
    assert "is at 1.5 already" in waits.of_when(found, None, forecast(), run()).headline


def test_one_lucky_row_is_no_target_reached():
    rows = run()
    rows = rows.plus(loss=np.where(rows["step"] == 60, 0.5, rows["loss"]))
    assert not when(forecast(), rows, 0.8).reached


def test_time_is_told_where_the_rows_have_it():
    found = when(forecast(), run(seconds=36), 0.95)
    assert found.seconds_per_step == pytest.approx(36)
    told = waits.of_when(found, found.choose(Worth.of("2h").steps(36)), forecast(), run())
    assert "min)" in told.headline
    assert told.data["choice"]["worth"] == 200
    assert when(forecast(), run(), 0.95).seconds_per_step is None


@pytest.mark.parametrize(
    ("text", "steps"), [("20000", 20000), ("2_000", 2000), ("1e4", 1e4), ("90m", 54), ("1.5h", 54), ("1d", 864)]
)
def test_worth_in_steps_or_time(text, steps):
    assert Worth.of(text).steps(100.0) == pytest.approx(steps)


@pytest.mark.parametrize("text", ["", "h", "3w", "-5", "nan", "inf", "0", "1e999", "12 hours"])
def test_what_is_no_worth_is_refused(text):
    with pytest.raises(SoonerError, match="--worth is"):
        Worth.of(text)


def test_refusals():
    with pytest.raises(SoonerError, match="--worth 3h is a time"):
        Worth.of("3h").steps(None)
    with pytest.raises(SoonerError, match="the target is nan"):
        when(forecast(), run(), float("nan"))
    with pytest.raises(SoonerError, match="its forecast ends there"):
        when(forecast(end=100), run(), 0.5)
    with pytest.raises(SoonerError, match="the worth of the target is -1 steps"):
        when(forecast(), run(), 0.9).choose(-1.0)
