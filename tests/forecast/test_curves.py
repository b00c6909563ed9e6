"""Laws of whole curves, schedules in words, forecasts of curves, and forecasts while training."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sooner.error import SoonerError
from sooner.forecast import Live, check, forecast_curve, parse
from sooner.forecast.blend import blend
from sooner.forecast.decay import with_prior
from sooner.forecast.laws import find
from sooner.forecast.schedules import KINDS
from sooner.forecast.table import join, table
from sooner.forecast.transient import without_transient

ANNEALING = np.array([2.5, 0.6, 0.5, 0.5])
MULTI_POWER = np.array([2.5, 0.6, 0.5, 400.0, 1.5, 0.5, 0.6])
RIVER_VALLEY = np.array([2.4, 1.9, 0.45, 300.0, 0.7, 60.0, 0.6])
SEEN = (
    "constant:peak=1e-3,warmup=100",
    "cosine:peak=1e-3,warmup=100",
    "step:peak=1e-3,warmup=100,at=2000,end=2e-4",
)


def annealing_by_hand(rates, at, floor, amount, alpha, gain, memory=0.999):
    """Return the loss at a step, by sums over all steps, the rise of the warm-up not counted as annealing."""
    peak = int(np.argmax(rates))
    area = fall = momentum = 0.0
    for step in range(at + 1):
        area += rates[step]
        drop = rates[step - 1] - rates[step] if step > peak else 0.0
        momentum = memory * momentum + drop
        fall += momentum
    return floor + amount * area**-alpha - gain * fall


def multi_power_by_hand(rates, at, floor, amount, alpha, b, c, beta, gamma):
    area = sum(rates[: at + 1])
    loss = floor + amount * area**-alpha
    for k in range(int(np.argmax(rates)) + 1, at + 1):
        drop = rates[k - 1] - rates[k]
        if drop > 0:
            after = sum(rates[k + 1 : at + 1])
            loss -= b * drop * (1 - (1 + c * rates[k] ** -gamma * after) ** -beta)
    return loss


def river_valley_by_hand(rates, at, floor, amount, alpha, height, power, memory, warmup):
    """Return the loss at a step, by sums over all steps, the learning rate taken as full before its peak."""
    peak, keep = int(np.argmax(rates)), np.exp(-1 / memory)
    way, recent = 0.0, rates[peak]
    for step in range(at + 1):
        way += (warmup if step <= peak else 1.0) * rates[step] ** power
        recent = keep * recent + (1 - keep) * max(rates[step], rates[peak] if step < peak else 0.0)
    return floor + amount * way**-alpha + height * recent


def curve(text, values=ANNEALING, law="annealing", total=3000, every=25, noise=0.0, until=None):
    made = find(law)
    steps = np.arange(100.0, (until or total) + 1, every)
    rows = table(text, step=steps, lr=parse(text, total=total).lr(steps))
    shock = np.exp(noise * np.random.default_rng(len(text)).standard_normal(len(steps)))
    return rows.plus(loss=made.predict(values[None], made.prepare(rows))[0] * shock)


@pytest.mark.parametrize("text", ["constant:peak=1e-3", "linear:peak=1e-3,end=1e-4", "step:peak=1e-3,at=120,end=2e-4"])
def test_the_laws_are_their_equations(text):
    schedule = parse(text, total=200)
    steps = np.arange(1.0, 201)
    rows = table("a", step=steps, lr=schedule.lr(steps))
    rates = np.concatenate([rows["lr"][:1], rows["lr"]])
    for name, values, by_hand, close in (
        ("annealing", ANNEALING, annealing_by_hand, 1e-9),
        # drops are gathered in blocks, which is exact for one drop and close for many
        ("multi_power", MULTI_POWER, multi_power_by_hand, 2e-3),
        # sums are interpolated between nodes of the power and of the memory
        ("river_valley", RIVER_VALLEY, river_valley_by_hand, 1e-4),
    ):
        law = find(name)
        made = law.predict(values[None], law.prepare(rows))[0]
        for at in (10, 119, 125, 200):
            assert made[at - 1] == pytest.approx(by_hand(rates, at, *values), rel=close), (name, at)


@pytest.mark.parametrize(
    ("name", "values"), [("annealing", ANNEALING), ("multi_power", MULTI_POWER), ("river_valley", RIVER_VALLEY)]
)
def test_the_laws_predict_schedules_that_they_did_not_see(name, values):
    fitted = find(name).fit(join([curve(text, values, name) for text in SEEN]), draws=20)
    held = curve("wsd:peak=1e-3,warmup=100,decay=0.3", values, name)
    np.testing.assert_allclose(fitted.at(held), held["loss"], rtol=1e-3)


def test_the_river_valley_with_pace_one_and_a_long_memory_is_the_annealing_law():
    rows = curve("cosine:peak=1e-3,warmup=100")
    river, floor, gain = find("river_valley"), 2.5, 0.5
    memory = -1 / np.log(0.999)
    height = gain / (1 - 0.999)  # the sum of fading drops, written as a fading mean
    values = np.array([floor - height * 1e-3, 0.6, 0.5, height, 1.0, memory, 1.0])
    made = river.predict(values[None], river.prepare(rows))[0]
    np.testing.assert_allclose(made, rows["loss"], rtol=1e-4)


def test_a_run_counts_the_same_however_often_it_was_logged():
    sparse = curve("cosine:peak=1e-3,warmup=100", every=100)
    rows = join([curve("constant:peak=1e-3,warmup=100", every=10), sparse])
    for name in ("annealing", "multi_power", "river_valley"):
        law = find(name)
        weights = law.weights(rows)
        assert weights.sum() == pytest.approx(len(rows))
        assert weights[rows.run == sparse.runs[0]].sum() == pytest.approx(len(rows) / 2)


def test_laws_are_averaged_by_what_leaving_out_shows():
    seen = join([curve(text, RIVER_VALLEY, "river_valley", noise=0.0005) for text in SEEN])
    laws = [find("annealing"), find("multi_power"), find("river_valley")]
    law, errors = blend(laws, seen)
    assert errors["river_valley"] == min(errors.values())
    assert law.name.startswith("river_valley")
    assert law.shares.sum() == pytest.approx(1)
    for one, share in zip(law.laws, law.shares, strict=True):
        weighed = share * (errors[one.name] ** 2 + 0.001**2)
        assert weighed == pytest.approx(law.shares[0] * (errors["river_valley"] ** 2 + 0.001**2))
    held = curve("wsd:peak=1e-3,warmup=100,decay=0.3", RIVER_VALLEY, "river_valley")
    fitted = law.fit(seen, draws=40)
    by_hand = sum(share * one.fit(seen, draws=2).at(held) for one, share in zip(law.laws, law.shares, strict=True))
    np.testing.assert_allclose(fitted.at(held), by_hand, rtol=1e-12)
    band = fitted.predict(held)
    assert np.mean((band.low <= held["loss"]) & (held["loss"] <= band.high)) >= 0.8
    assert np.allclose(fitted.draws[:, : len(law.laws)].sum(1), 1)  # every draw of the band is of one law


def test_the_end_of_a_curve_is_checked_with_the_learning_rates_before_it():
    found = check(find("annealing"), curve("cosine:peak=1e-3,warmup=100"), "end", draws=2)
    assert found.error < 1e-3


def test_no_law_is_held_to_a_warmup():
    steps = np.arange(10.0, 3001, 10)
    texts = ("linear:peak=1e-3,warmup=500", "cosine:peak=1e-3,warmup=500")
    runs = [table(text, step=steps, lr=parse(text, total=3000).lr(steps), loss=9.0) for text in texts]
    law = find("annealing")
    made = [
        run.plus(loss=np.where(steps < 500, 9.0, law.predict(ANNEALING[None], law.prepare(run))[0])) for run in runs
    ]
    assert check(law, join(made), "curve", draws=2).error < 0.01


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.floats(1e-6, 1.0), st.integers(10, 5000), st.floats(0, 0.5))
def test_schedules_stay_between_zero_and_their_peak(kind, peak, total, share):
    at = {"step": f",at={total // 2}", "drops": f",drops={total // 2}/{0.75 * total!r}"}.get(kind, "")
    schedule = parse(f"{kind}:peak={peak!r},warmup={share * total!r}{at}", total=total)
    rates = schedule.lr(np.arange(total + 10.0))
    assert (rates >= 0).all()
    assert rates.max() <= peak * (1 + 1e-12)
    after = rates[int(np.ceil(share * total)) + 1 :]
    assert (np.diff(after) <= 1e-12 * peak).all()
    again = parse(str(schedule))
    np.testing.assert_allclose(again.lr(np.arange(total + 1.0)), rates[: total + 1], rtol=1e-4, atol=1e-4 * peak)


def test_schedules_at_their_corners():
    steps = np.array([0.0, 50, 100, 550, 1000])
    assert parse("cosine:peak=2,warmup=100,total=1000,end=1").lr(steps).tolist() == pytest.approx([0, 1, 2, 1.5, 1])
    assert parse("wsd:peak=2,total=1000,decay=0.9").lr(steps).tolist() == pytest.approx([2, 2, 2, 1, 0])
    assert parse("wsd:peak=2,total=1000,decay=900,shape=sqrt").lr(steps)[3] == pytest.approx(2 * (1 - 0.5**0.5))
    assert parse("exponential:peak=4,total=1000,end=1").lr(np.array([500.0]))[0] == pytest.approx(2)
    assert parse("inverse_sqrt:peak=1,warmup=100,total=1000").lr(np.array([400.0]))[0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cosin:peak=1", r"unknown kind \(did you mean 'cosine'\?\)"),
        ("cosine:peek=1", r"'peek=1' is not one of peak, .*did you mean 'peak'"),
        ("cosine:peak=x", "peak is 'x', which is not a number"),
        ("cosine:peak=-1", "must be zero or more"),
        ("cosine:warmup=10,total=100", "does not say peak"),
        ("cosine:peak=1", "does not say total"),
        ("cosine:peak=1,peak=2,total=9", "says peak twice"),
        ("cosine:peak=1,total=10,end=2", "end is above peak"),
        ("cosine:peak=1,total=10,warmup=20", "warmup is longer than the total"),
        ("step:peak=1,total=10", "add at=STEP"),
        ("wsd:peak=1,total=10,shape=round", "'round' is no shape"),
        ("", "unknown kind"),
    ],
)
def test_a_schedule_that_cannot_be_parsed_is_refused(text, message):
    with pytest.raises(SoonerError, match=message):
        parse(text)


def test_the_rest_of_a_run_and_the_step_of_a_target():
    done = curve("constant:peak=1e-3,warmup=100", noise=0.001)
    half = done.where(done["step"] <= 1500)
    made = forecast_curve(half, total=3000, draws=50)
    value, low, high = made.final
    assert low <= done["loss"][-1] <= high
    assert value == pytest.approx(done["loss"][-1], rel=0.01)
    target = float(done["loss"][done["step"] >= 2500][0])
    assert made.step_to(target) == pytest.approx(2500, rel=0.15)
    assert made.step_to(0.1) is None


def test_another_schedule_from_two_curves():
    seen = join(
        [curve(text, noise=0.0005) for text in ("constant:peak=1e-3,warmup=100", "cosine:peak=1e-3,warmup=100")]
    )
    text = "wsd:peak=1e-3,warmup=100,total=3000,decay=0.3"
    made = forecast_curve(seen, schedule=parse(text), draws=50)
    truth = curve(text)["loss"][-1]
    assert made.final[0] == pytest.approx(truth, rel=0.01)
    assert made.final[1] <= truth <= made.final[2]
    assert set(made.errors) == {"annealing", "multi_power", "river_valley"}
    assert made.check is not None
    assert made.check.left_out == "one curve at a time"


def test_a_curve_without_learning_rates_is_a_power_law_and_a_decay_in_it_is_told():
    plain = curve("cosine:peak=1e-3,warmup=100")
    blind = table("a", step=plain["step"], loss=plain["loss"])
    made = forecast_curve(blind, draws=20)
    assert made.law == "power_floor"
    assert any("falls faster at its end" in warning for warning in made.warnings)
    with pytest.raises(SoonerError, match="say them with --lr"):
        forecast_curve(blind, schedule=parse("constant:peak=1,total=9"))
    with pytest.raises(SoonerError, match="nothing is left until 10"):
        forecast_curve(blind, total=10)


def test_a_curve_that_has_stopped_moving_is_told():
    steps = np.arange(10.0, 4000, 10)
    stuck = table("a", step=steps, loss=np.maximum(3 * steps**-0.3, 0.4))
    made = forecast_curve(stuck, draws=20)
    assert any("has stopped moving: the last value, 0.4, is the safer" in warning for warning in made.warnings)
    honest = forecast_curve(table("a", step=steps, loss=0.2 + 3 * steps**-0.3), draws=20)
    assert not any("safer forecast" in warning for warning in honest.warnings)


def test_a_curve_that_has_stopped_moving_keeps_its_last_value():
    steps = np.arange(10.0, 4000, 10)
    made = forecast_curve(table("a", step=steps, loss=np.maximum(3 * steps**-0.3, 0.4)), draws=20)
    assert made.final == pytest.approx((0.4, 0.4, 0.4))
    honest = forecast_curve(table("a", step=steps, loss=0.2 + 3 * steps**-0.3), total=8000, draws=20)
    assert honest.final[0] == pytest.approx(0.2 + 3 * 8000**-0.3, rel=2e-3)


def test_a_loss_stands_where_the_learning_rate_is_zero():
    text = "cosine:peak=1e-3,warmup=100,total=1500"
    steps = np.arange(100.0, 2001, 25)
    rows = table("a", step=steps, lr=parse(text).lr(steps))
    loss = find("annealing").predict(ANNEALING[None], find("annealing").prepare(rows))[0] + 0.3 * (steps > 800)
    shock = 1 + 1e-3 * np.random.default_rng(0).standard_normal(len(steps))
    loss = np.where(steps < 1500, loss, loss[steps == 1500]) * shock
    made = forecast_curve(rows.plus(loss=loss), schedule=parse(text), total=4000, draws=20)
    still = loss[steps >= 1500]
    assert made.final[0] == pytest.approx(np.exp(np.log(still).mean()))
    assert made.final[2] / made.final[0] == pytest.approx(np.exp(1.645 * np.log(still).std(ddof=1)), rel=0.05)
    assert any("is 0 from step 1500 on: the loss of a no longer moves" in one for one in made.warnings)
    assert made.prediction.value[0] != pytest.approx(made.final[0])


def test_a_run_goes_on_at_its_distance_from_the_law_and_another_run_does_not():
    text = "cosine:peak=1e-3,warmup=100,total=3000"
    done = curve(text)
    half = done.where(done["step"] <= 1500)
    off = half.plus(loss=half["loss"] * np.where(half["step"] > 1350, 1.02, 1.0))
    made = forecast_curve(off, schedule=parse(text), law=find("annealing"), draws=20)
    law, _ = with_prior(find("annealing"), off, table("a", step=made.step, lr=made.lr))
    fitted = law.fit(without_transient(law, off), draws=2)
    distance = np.mean(np.log(off["loss"] / fitted.at(off))[-(len(off) // 10) :])
    assert distance > 0.005
    whole = table("a", step=made.step, lr=made.lr)
    assert made.final[0] == pytest.approx(fitted.at(whole)[-1] * np.exp(distance), rel=1e-3)
    assert any("above the fitted law and follows another course: the forecast keeps" in one for one in made.warnings)
    other = parse("wsd:peak=1e-3,warmup=100,total=3000")
    elsewhere = forecast_curve(off, schedule=other, law=find("annealing"), draws=20)
    whole = table("a", step=elsewhere.step, lr=elsewhere.lr)
    law, _ = with_prior(find("annealing"), off, whole)
    fitted = law.fit(without_transient(law, off), draws=2)
    np.testing.assert_allclose(elsewhere.prediction.value, fitted.at(whole))
    assert not any("keeps that distance" in one for one in elsewhere.warnings)


def test_how_much_of_a_long_beginning_is_left_out_is_found_on_a_few_rows():
    law = find("power_floor", "step")
    asked = []
    law.prepare = lambda table, prepare=law.prepare: asked.append(len(table)) or prepare(table)
    steps = np.arange(1.0, 3001)
    begun = 1 + 0.5 * np.exp(-steps / 100)  # which no power law describes
    rows = table("a", step=steps, loss=(2 + 20 * steps**-0.5) * begun)
    mixed = without_transient(law, rows.where(np.random.default_rng(0).permutation(3000)))
    assert max(asked) <= 200
    assert len(mixed) == 3000
    left = mixed["step"][mixed["fitted"] == 0]
    assert left.max() == len(left)
    assert 300 <= len(left) <= 750
    again = without_transient(law, rows.where(np.arange(0, 3000, 15)))  # short enough to be taken as it is
    assert again["step"][again["fitted"] == 0].max() == pytest.approx(left.max(), abs=15)


def test_live_says_where_the_run_will_end():
    done = curve("constant:peak=1e-3", total=2000, every=1)
    told = []
    live = Live(2000, schedule="constant:peak=1e-3", target=float(done["loss"][-200]), show=told.append, draws=20)
    for step, loss in zip(done["step"], done["loss"], strict=True):
        live(int(step), loss)
    live(5, float("nan"))
    assert len(told) == 9
    assert told[-1].startswith("step 1800: final loss ")
    assert "at step 18" in told[-1] or "was reached" in told[-1] or "at step 17" in told[-1]
    assert live.curve.final[0] == pytest.approx(done["loss"][-1], rel=0.01)


def test_live_knows_what_a_decay_brings_from_earlier_runs():
    text = "cosine:peak=1e-3,warmup=100"
    history = join([curve(text, noise=0.0005), curve("constant:peak=1e-3,warmup=100", noise=0.0005)])
    now = curve(text, until=1200)
    live = Live(3000, schedule=text, history=history, show=None, draws=20)
    for step, loss in zip(now["step"], now["loss"], strict=True):
        live(int(step), loss)
    assert live.forecast().final[0] == pytest.approx(curve(text)["loss"][-1], rel=0.01)


def test_live_refuses_what_it_cannot_forecast():
    with pytest.raises(SoonerError, match="has 1 steps"):
        Live(1)
    live = Live(100, show=None)
    with pytest.raises(SoonerError, match="there are 0 losses so far"):
        live.forecast()
    with pytest.raises(SoonerError, match="no forecast yet"):
        live.sentence()
