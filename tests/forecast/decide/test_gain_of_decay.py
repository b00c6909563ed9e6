"""What a cool-down takes off: read from curves and tables, carried over to other sizes, refused where it can't."""

import numpy as np
import pytest

from sooner.error import SoonerError
from sooner.forecast.decide.gain_of_decay import Waiting, gain_of_decay
from sooner.forecast.schedules import parse
from sooner.forecast.table import LOGGED, join, table

STEPS = np.arange(10.0, 2001, 10)


def curve(name, text="wsd:peak=1e-3,warmup=100,total=2000,decay=0.2", gain=0.05, level=3.0, noise=0.0, **columns):
    """A run whose loss falls as a power, and by the gain in proportion to how far the learning rate has fallen."""
    lr = parse(text, total=2000).lr(STEPS)
    left = np.where(STEPS > 100, 1 - lr / lr.max(), 0.0)
    shock = noise * np.random.default_rng(len(name)).standard_normal(len(STEPS))
    return table(name, step=STEPS, lr=lr, loss=level * (STEPS / 1600) ** -0.02 * np.exp(shock - gain * left), **columns)


def cooled(sizes, gains, before=3.0):
    gains = np.asarray(gains, dtype=float)
    return table(parameters=sizes, before=before, loss=before * np.exp(-gains))


def test_a_run_before_its_cool_down_gets_the_share_of_those_that_had_one():
    rows = join([curve("small", gain=0.05), curve("large", "constant:peak=1e-3,warmup=100", level=2.0)])
    made = gain_of_decay(rows)
    (known,), (ahead,) = made.known, made.ahead
    fall = 0.02 * np.log(2000 / 1600)  # what the power law brings while the rate decays
    assert known.before == pytest.approx(3.0, rel=1e-3)
    assert known.gain == pytest.approx(0.05 + fall, rel=0.02)
    assert (known.length, known.end) == pytest.approx((0.2, 0.0), abs=0.01)
    assert ahead.before == pytest.approx(rows.only(["large"])["loss"][-1], rel=1e-3)
    assert ahead.value == pytest.approx(ahead.before * np.exp(-known.gain))
    assert ahead.low < ahead.value < ahead.high
    assert made.share == pytest.approx(known.share)
    assert made.warnings == []


def test_noise_of_single_rows_does_not_move_the_gain():
    calm, noisy = (gain_of_decay(curve("a", noise=noise)).known[0].gain for noise in (0.0, 0.02))
    assert noisy == pytest.approx(calm, abs=0.012)


def test_the_share_carries_over_and_not_the_nats():
    losses = np.array([4.0, 3.5, 3.2])
    made = gain_of_decay(cooled([1e7, 3e7, 1e8], [0.03] * 3, losses), [Waiting("large", 2.0, 1e9)])
    (ahead,) = made.ahead
    assert ahead.value == pytest.approx(2 * np.exp(-0.03))
    assert ahead.by_nats == pytest.approx(2 - np.mean(losses * (1 - np.exp(-0.03))))
    assert [one.run for one in made.left] == ["2"]
    assert made.left[0].value == pytest.approx(made.left[0].measured)
    assert made.left[0].inside


def test_a_trend_with_the_size_is_followed_as_far_as_the_runs_show_it():
    sizes = np.geomspace(1e7, 1e9, 24)
    gains = 0.03 - 0.002 * np.log(sizes / 1e8)
    truth = 0.03 - 0.002 * np.log(100)
    many, few = (
        gain_of_decay(cooled(sizes[rows], gains[rows]), [Waiting("x", 3.0, 1e10)]).ahead[0]
        for rows in (np.arange(24), np.arange(11, 14))
    )
    gain = {name: np.log(3.0 / one.value) for name, one in (("many", many), ("few", few))}
    assert gain["many"] == pytest.approx(truth, abs=0.001)
    assert truth < gain["many"] < gain["few"] < 0.03
    assert many.high - many.low < few.high - few.low


def test_cool_downs_of_one_model_are_one_witness():
    once = gain_of_decay(cooled([1e8], [0.03]))
    often = gain_of_decay(cooled([1e8] * 10, [0.03] * 10))
    assert (often.low, often.high) == pytest.approx((once.low, once.high))


@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize("mean", [0.02, 0.2])
def test_intervals_hold_nine_of_ten(count, mean):
    random = np.random.default_rng(count)
    inside = []
    for _ in range(60):
        gains = mean * (1 + 0.12 * random.standard_normal(count + 1))
        rows = table(np.arange(count).astype(str), before=3.0, loss=3 * np.exp(-gains[:-1]))
        one = gain_of_decay(rows, [Waiting("next", 3.0)]).ahead[0]
        inside.append(one.low <= 3 * np.exp(-gains[-1]) <= one.high)
    assert np.mean(inside) > 0.8


def test_without_a_cool_down_published_runs_say_how_wide_it_is():
    made = gain_of_decay(curve("a", "constant:peak=1e-3"))
    assert made.known == []
    assert (made.low, made.share, made.high) == pytest.approx((0.0126, 0.04, 0.127), abs=1e-3)
    assert "published language models" in made.warnings[0]
    assert np.isnan(made.ahead[0].by_nats)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cosine:peak=1e-3,warmup=100", "which is a schedule and no cool-down"),
        ("wsd:peak=1e-3,warmup=100,total=2600,decay=800", "is in its decay, at 75%"),
    ],
)
def test_what_is_no_cool_down_is_left_out(text, message):
    rows = join([curve("odd", text), curve("a"), curve("b", gain=0.06)])
    made = gain_of_decay(rows)
    assert [one.run for one in made.known] == ["a", "b"]
    assert any(message in one for one in made.warnings)
    with pytest.raises(SoonerError, match="no run has a cool-down behind or ahead of it"):
        gain_of_decay(rows.only(["odd"]))


def test_doubts():
    short = curve("short", "wsd:peak=1e-3,warmup=100,total=2000,decay=0.05")
    half = curve("half", "wsd:peak=1e-3,warmup=100,total=2000,decay=0.2,end=4e-4")
    told = gain_of_decay(join([curve("a"), short, half])).warnings
    assert any("length, as a share of the run, goes from 0.05 to 0.2" in one for one in told)
    assert any("learning rate at the end" in one for one in told)
    nothing = gain_of_decay(cooled([1e7, 1e8, 1e9], [0.01, -0.02, 0.015]))
    assert any("reaches zero" in one for one in nothing.warnings)
    rows = cooled([1e7, 1e8], [0.03, 0.03])
    far = gain_of_decay(rows, [Waiting("far", 2.0, 1e11), Waiting("unknown", 2.0)]).warnings
    assert far == [
        "far is 1000 times the largest size that was cooled down",
        "the size of unknown is not known: its gain is taken as at the sizes measured",
    ]
    off = gain_of_decay(cooled([1e7, 3e7, 1e8], [0.03, 0.03, 0.1])).warnings
    assert "without 2 the others would have missed it: the interval is too narrow here" in off


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (table(step=[1, 2, 3], loss=2.0), "read from curves with their learning rates"),
        (table("a", step=[1, 2, 3], loss=2.0, lr=0.0), "no learning rate above zero"),
        (table(before=[3.0, -1.0], loss=2.0), "a loss before a cool-down is -1"),
        (table(before=[3.0], loss=2.0).with_notes(f"{LOGGED} 'ppl'"), "give both as losses"),
        (table(before=[3.0]), "the column 'loss' is missing"),
    ],
)
def test_refusals(rows, message):
    with pytest.raises(SoonerError, match=message):
        gain_of_decay(rows)


def test_a_loss_before_the_decay_is_positive():
    with pytest.raises(SoonerError, match="the loss of x before its decay is nan"):
        gain_of_decay(curve("a"), [Waiting("x", float("nan"))])
