"""Bands: usual errors by reach, back-tests on own rows, priors over decays, transients, and positive losses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sooner.error import SoonerError
from sooner.forecast import fit, forecast_curve, parse, table
from sooner.forecast.along_schedule import less
from sooner.forecast.bands.run import of_run
from sooner.forecast.bands.usual import CURVES, FILE, LEVELS, Scores, half_width, usual
from sooner.forecast.decay import GAIN, SPREAD, with_prior
from sooner.forecast.fitted import reach
from sooner.forecast.formula import FITTED
from sooner.forecast.laws import find
from sooner.forecast.laws.annealing import Annealing
from sooner.forecast.laws.power_floor import PowerFloor
from sooner.forecast.schedule_file import schedule_of
from sooner.forecast.transient import without_transient

STEPS = np.arange(20.0, 2001, 20)
VALUES = np.array([2.0, 0.6, 0.5, 0.4])


def begun(text, until=1000, values=VALUES, noise=0.0):
    """Return a run of the annealing law: what is known of it, and the whole."""
    law = Annealing()
    rows = table("a", step=STEPS, lr=parse(text, total=2000).lr(STEPS))
    shock = np.exp(noise * np.random.default_rng(0).standard_normal(len(STEPS)))
    whole = rows.plus(loss=law.predict(values[None], law.prepare(rows))[0] * shock)
    return whole.where(whole["step"] <= until), whole


def test_the_bundled_scores_widen_bands_with_reach_and_level():
    for kind in ("schedule", "blind", "scale"):
        known = usual(kind)
        assert (np.diff(known.factors) > 0).all()
        assert (np.diff(known.spread) >= 0).all()
        one = half_width(kind, np.array([1.0, 2.0, 1e3, 1e6]), 0.9)
        assert one[3] == pytest.approx(2 * one[2])  # beyond the table as the logarithm of the factor
        assert (half_width(kind, np.array([5.0]), 0.95) > half_width(kind, np.array([5.0]), 0.5)).all()


def test_a_level_is_read_where_its_quantile_stands():
    for kind in ("schedule", "blind", "scale"):
        known = usual(kind)
        for k in (9, 17, 18):
            half = half_width(kind, np.array([4.0]), LEVELS[k] / (1 + 1 / CURVES))
            assert half == pytest.approx(known.spread[k] * known.at(np.array([4.0])))
        assert len(known.spread) == len(LEVELS)


def test_own_backtests_move_the_width_both_ways():
    at = np.array([10.0])
    plain = half_width("scale", at, 0.9)
    level = usual("scale").at(np.array([4.0]))
    bad = Scores(np.full(30, 4.0), np.full(30, 5 * float(level[0])), 3)
    good = Scores(np.full(30, 4.0), np.full(30, 0.05 * float(level[0])), 3)
    assert half_width("scale", at, 0.9, bad) > 1.5 * plain
    assert half_width("scale", at, 0.9, good) < plain


def test_a_run_that_has_not_decayed_yet_gets_a_band_as_wide_as_that_ignorance():
    known, whole = begun("wsd:peak=1e-3,decay=0.2")
    made = forecast_curve(known, schedule=parse("wsd:peak=1e-3,decay=0.2", total=2000), draws=60)
    value, low, high = made.final
    flat = forecast_curve(known, schedule=parse("constant:peak=1e-3", total=2000), draws=60)
    assert value == pytest.approx(flat.final[0] * (1 - GAIN), rel=0.02)
    assert low < flat.final[0] * (1 - 0.1)
    assert high > 0.98 * flat.final[0]
    assert low < whole["loss"][-1] < high
    assert any("one finished run of this family" in one for one in made.warnings)
    assert not any("one finished run" in one for one in flat.warnings)


def test_a_decay_that_was_seen_needs_no_prior():
    known, whole = begun("wsd:peak=1e-3,decay=0.5", until=1900)
    law, told = with_prior(Annealing(), known, whole)
    assert law.prior is None
    assert not told
    early, _ = begun("wsd:peak=1e-3,decay=0.5", until=900)
    law, told = with_prior(Annealing(), early, whole)
    assert law.prior is not None
    assert Annealing().prior is None
    drawn = fit(law, early, draws=300).draws[:, 3]
    assert np.std(np.log(drawn)) == pytest.approx(SPREAD, rel=0.25)  # these rows say nothing of it
    assert with_prior(PowerFloor("step"), early, whole)[1] == []


def test_bands_close_towards_the_end_of_a_run():
    known, _ = begun("constant:peak=1e-3", until=1960, noise=0.001)
    made = forecast_curve(known, schedule=parse("constant:peak=1e-3", total=2000), draws=60)
    near = (made.final[2] - made.final[1]) / made.final[0]
    early, _ = begun("constant:peak=1e-3", until=400, noise=0.001)
    made = forecast_curve(early, schedule=parse("constant:peak=1e-3", total=2000), draws=60)
    far = (made.final[2] - made.final[1]) / made.final[0]
    assert near < 0.01
    assert far > 2 * near


def test_a_transient_is_left_out_where_that_predicts_better():
    steps = np.arange(1.0, 401)
    smooth = 2 + 3 * steps**-0.5
    plain = table("a", step=steps, loss=smooth)
    assert FITTED not in without_transient(PowerFloor("step"), plain)
    bent = table("a", step=steps, loss=np.where(steps < 30, np.minimum(smooth, 2.6), smooth))
    kept = without_transient(PowerFloor("step"), bent)
    assert kept[FITTED].min() == 0
    assert "left out: the rest predicts better" in kept.notes[-1]
    made = forecast_curve(bent, total=800, draws=40)
    truth = 2 + 3 * 800**-0.5
    assert made.final[0] == pytest.approx(truth, rel=0.01)
    assert made.final[1] <= truth <= made.final[2]


@settings(max_examples=40, deadline=None)
@given(st.floats(1e-3, 1e3), st.floats(0, 1e6))
def test_a_loss_less_a_gain_stays_positive_and_falls_with_the_gain(loss, gain):
    made, more = less(np.array([loss]), np.array([gain])), less(np.array([loss]), np.array([1.01 * gain + 1e-9]))
    assert made > 0
    assert more <= made
    if gain < 0.5 * loss:
        assert made == pytest.approx(loss - gain)


@pytest.mark.parametrize("text", ["wsd:peak=1,decay=0.5", "cosine:peak=1", "constant:peak=1"])
def test_forecasts_and_bands_of_losses_are_positive(text):
    steps = np.arange(5.0, 101, 5)
    falling = table("a", step=steps, lr=parse(text, total=1000).lr(steps), loss=np.exp(-steps / 25))
    made = forecast_curve(falling, schedule=parse(text, total=1000), draws=40).prediction
    for one in (made.value, made.low, made.high):
        assert (one > 0).all()
    assert (made.low <= made.value).all()
    assert (made.value <= made.high).all()


def test_a_band_of_final_losses_is_no_narrower_than_backtests_need():
    sizes = np.geomspace(1e6, 1e9, 12)
    bent = np.where(sizes < 1e8, 2 + 40 * sizes**-0.3, 2 + 40 * 1e8**-0.3 * (sizes / 1e8) ** -0.02)
    law = find("power_floor", "parameters")
    done = fit(law, table(parameters=sizes, loss=bent), draws=60)
    assert done.scores is not None
    assert done.scores.origins >= 2
    at = table(parameters=1e10)
    factor, change = reach(done, at)
    assert factor[0] == pytest.approx(10)
    band = done.predict(at)
    need = half_width("scale", factor, 0.9, done.scores) * change
    assert np.log(band.high / band.value)[0] >= need[0] - 1e-9
    inside = done.predict(table(parameters=1e8))
    assert inside.high[0] - inside.low[0] < band.high[0] - band.low[0]


def test_scores_of_a_run_need_rows_before_its_origins():
    known, _ = begun("constant:peak=1e-3", until=2000)
    scores = of_run(Annealing(), known, known)
    assert scores.factor == pytest.approx([1.5, 2.0, 4.0], rel=0.02)
    assert (scores.score < 0.2).all()  # it is a run of that law
    assert of_run(Annealing(), known.where(known["step"] < 300), known.where(known["step"] < 300)) is None


def test_the_bundled_table_is_the_sweep_s(tmp_path):
    assert FILE.exists()
    assert FILE.with_name("sweep.csv").exists()


def test_schedules_with_several_drops_a_cool_down_and_of_a_file(tmp_path):
    at = np.array([0.0, 299, 300, 700])
    assert parse("drops:peak=2,total=1000,drops=300/600").lr(at) == pytest.approx([2, 2, 0.2, 0.02])
    cool = parse("cosine:peak=2,total=1000,end=1,decay=0.2")
    assert cool.lr(np.array([0.0, 400, 800, 900, 1000])) == pytest.approx([2, 1.5, 1, 0.5, 0])
    assert parse(str(cool)) == cool
    drops = parse("drops:peak=2,total=1000,drops=300/600,factor=0.5")
    assert parse(str(drops)) == drops
    path = tmp_path / "rates.csv"
    path.write_text("Step;Learning Rate\n100;2e-3\n0;0\n200;0\n")
    made = schedule_of(str(path))
    assert made.lr(np.array([50.0, 150, 500])) == pytest.approx([1e-3, 1e-3, 0])
    assert (made.peak, made.total) == (2e-3, 200)
    assert str(made) == "rates.csv, 3 steps to 200"
    assert schedule_of("constant:peak=1", total=9) == parse("constant:peak=1,total=9")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step,loss\n1,2\n", "has no heading lr; it has step, loss"),
        ("step,lr\n1,x\n", "line 2 of the schedule"),
        ("step,lr\n1,0.1\n", "has 1 steps"),
        ("step,lr\n1,0.1\n1,0.2\n", "has step 1 twice"),
        ("step,lr\n1,-0.1\n2,0.2\n", "learning rate -0.1 at step 1"),
        ("step,lr\n1,0\n2,0\n", "no learning rate above zero"),
        ("", "has no heading step"),
    ],
)
def test_a_schedule_file_that_is_none_is_refused(tmp_path, text, message):
    path = tmp_path / "rates.csv"
    path.write_text(text)
    with pytest.raises(SoonerError, match=message):
        schedule_of(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drops:peak=1,total=9", "add drops=1000/2000"),
        ("drops:peak=1,total=9,drops=5/12", "within the total of 9"),
        ("drops:peak=1,total=9,drops=5/x", "drops is 'x'"),
        ("cosine:peak=1,total=10,warmup=6,decay=5", "leave no step between"),
    ],
)
def test_the_new_schedules_are_checked(text, message):
    with pytest.raises(SoonerError, match=message):
        parse(text)


def test_a_schedule_file_that_is_absent_is_told(tmp_path):
    with pytest.raises(SoonerError, match="can't be read"):
        schedule_of(str(tmp_path / "none.csv"))
