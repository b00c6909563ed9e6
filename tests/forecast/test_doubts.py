"""Every warning, where it belongs and where it does not; checks by leaving out; bands."""

from dataclasses import replace

import numpy as np
import pytest

from sooner.error import SoonerError
from sooner.forecast import check, choose, find, fit, table
from sooner.forecast.automatic import candidates, unread
from sooner.forecast.check import Check, Held
from sooner.forecast.consensus import Consensus, consensus
from sooner.forecast.diagnose import count_scales
from sooner.forecast.fitted import VALLEY
from sooner.report.forecast.build import doubts


def grid(noise=0.002, seed=0, n=None, d=None):
    n, d = np.meshgrid(np.geomspace(1e8, 3e9, 6) if n is None else n, np.geomspace(2e9, 1e11, 6) if d is None else d)
    n, d = n.ravel(), d.ravel()
    shock = np.exp(noise * np.random.default_rng(seed).standard_normal(len(n)))
    return table(parameters=n, tokens=d, loss=(1.8 + 480 / n**0.35 + 2100 / d**0.37) * shock)


def told(rows, text, law="chinchilla", **more):
    return any(text in warning for warning in fit(find(law, **more), rows, draws=60).warnings)


def test_a_good_table_raises_no_doubt():
    assert fit(find("chinchilla"), grid(), draws=60).warnings == ()


def test_a_far_target():
    fitted = fit(find("chinchilla"), grid(), draws=20)
    far = table(parameters=3e11, tokens=1e13)
    assert any("beyond 10 times" in warning for warning in fitted.predict(far).warnings)
    near = table(parameters=4e9, tokens=1.2e11)
    assert not fitted.predict(near).warnings


def test_far_is_downward_for_laws_of_the_loss():
    loss = np.linspace(2.0, 4.0, 20)
    fitted = fit(find("loss_to_error"), table(loss=loss, error=0.9 - 3 * np.exp(-1.2 * loss)), draws=20)
    assert any("1/20 of the smallest" in warning for warning in fitted.predict(table(loss=0.1)).warnings)
    assert not any("times" in warning for warning in fitted.predict(table(loss=50.0)).warnings)


def test_a_floor_that_is_not_identified():
    size = np.geomspace(1e6, 1e8, 12)
    shock = np.exp(0.01 * np.random.default_rng(0).standard_normal(12))
    assert told(table(tokens=size, loss=30 * size**-0.1 * shock), "the floor E is not identified", "power_floor")
    assert not told(table(tokens=size, loss=1 + 3e4 * size**-0.7), "not identified", "power_floor")


def test_fewer_than_three_scales():
    assert told(grid(n=np.array([1e8, 3e9])), "fewer than three scales of parameters (2)")
    assert count_scales(np.geomspace(1, 100, 1000)) > 50
    assert count_scales(np.array([1.0, 1.01, 1.04, 2.0])) == 2


def test_a_parameter_at_its_bound():
    size = np.geomspace(1e6, 1e8, 12)
    assert told(table(tokens=size, loss=30 * size**0.05), "at its bound", "power_floor")


def test_a_flat_objective():
    assert told(grid(d=np.array([2e9, 2.05e9]), noise=0.01), "the objective is flat")


def test_a_flat_valley_is_told_only_where_it_moves_the_forecast():
    fitted = fit(find("chinchilla"), grid(), draws=20)
    asked = grid().where(np.arange(36) < 3)
    valley = f"{VALLEY}: starts that end within 1 % of the best disagree on A"
    for change, kept in ((1.0, False), (1.1, True)):
        ends = np.stack([fitted.values, fitted.values * [change, 1, 1, 1, 1]])
        flat = replace(fitted, ends=np.full(2, fitted.objective), ends_values=ends, warnings=("other", valley))
        assert flat.predict(asked).warnings == (("other", valley) if kept else ("other",))
    one = replace(flat, ends=flat.ends[:1], ends_values=ends[:1])  # of an average of laws
    assert one.predict(asked).warnings == ("other", valley)


def test_that_the_last_value_does_better_is_said_first_and_only_where_seeds_do_not_explain_it():
    held = Held("a", 1e6, 2.0, 2.1, 1.9, 2.2, error=0.05, last_value=0.02, power_floor=0.03, covered=1.0)
    clear = Check("m1", "the end", 0.9, [held], [])
    assert doubts(["other"], clear)[0].endswith("do not rely on it here")
    assert len(doubts(["other"], clear)) == 2
    for name, value in (("last_value", 0.0495), ("power_floor", 0.0496)):
        near = replace(held, **{"last_value": 0.08, "power_floor": 0.08, name: value})
        assert doubts(["other"], replace(clear, held=[near])) == ["other"]


def test_predictors_that_grow_together_or_not_at_all():
    n = np.geomspace(1e8, 1e10, 12)
    rows = table(parameters=n, tokens=20 * n, loss=1.8 + 480 / n**0.35 + 2100 / (20 * n) ** 0.37)
    assert told(rows, "parameters and tokens grow together")
    assert told(grid(n=np.array([1e9])), "parameters is the same in every row")


def test_embeddings_and_other_ways_to_count():
    rows = grid()
    assert told(
        rows.plus(compute=8 * rows["parameters"] * rows["tokens"]), "FLOP are 1.33 times 6 x parameters x tokens"
    )
    assert not told(rows.plus(compute=6 * rows["parameters"] * rows["tokens"]), "FLOP are")
    assert told(grid(n=np.geomspace(1e6, 1e9, 6)), "embeddings may be a large share")


def test_all_runs_on_the_flat_side_of_a_sigmoid():
    loss = np.linspace(3.0, 4.0, 20)
    shock = 0.002 * np.random.default_rng(1).standard_normal(20)
    assert told(table(loss=loss, accuracy=0.25 + shock), "flat side of the sigmoid", "loss_to_accuracy")


def test_a_check_leaves_out_the_largest_scale_and_shows_both_baselines():
    made = check(find("chinchilla"), grid(), draws=60)
    assert made.left_out == "the largest compute"
    assert len(made.held) == 1
    assert made.error < 0.02
    assert made.last_value > 0
    assert made.power_floor is not None
    with pytest.raises(SoonerError, match="one curve only"):
        check(find("annealing"), table("a", step=np.arange(1, 50.0), lr=1e-3, loss=2.0), "curve")
    with pytest.raises(SoonerError, match="all rows are at one compute"):
        check(find("chinchilla"), grid(n=np.array([1e9]), d=np.array([1e10])), draws=20)
    with pytest.raises(SoonerError, match="has one row only"):
        check(find("power_floor"), grid(), "end")


def test_a_law_is_chosen_by_what_leaving_out_shows():
    size = np.geomspace(1e6, 1e10, 24)
    rows = table(tokens=size, loss=1 + 100 * size**-0.3)
    law, errors = choose([find("m1"), find("power_floor")], rows)
    assert law.name == "power_floor"
    assert errors["power_floor"] < errors["m1"]
    with pytest.raises(SoonerError, match="none of the laws can be checked"):
        choose([find("chinchilla")], rows)


def test_bands_cover_what_they_say():
    inside, total = 0, 0
    far = table(parameters=[6e9, 1e10], tokens=[3e11, 5e11])
    truth = 1.8 + 480 / far["parameters"] ** 0.35 + 2100 / far["tokens"] ** 0.37
    for seed in range(25):
        band = fit(find("chinchilla"), grid(0.01, seed), draws=60, seed=seed).predict(far)
        shown = truth * np.exp(0.01 * np.random.default_rng(100 + seed).standard_normal(2))
        inside += int(((band.low <= shown) & (shown <= band.high)).sum())
        total += 2
    assert 0.8 <= inside / total <= 1.0


def test_fits_are_repeatable():
    one, two = (fit(find("chinchilla"), grid(0.01), draws=20, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.draws, two.draws)
    np.testing.assert_array_equal(one.sample(grid()), two.sample(grid()))


def test_the_columns_choose_the_laws():
    assert [law.name for law in candidates(grid())] == ["chinchilla", "overtraining"]
    assert candidates(table(loss=[1.0, 2.0], accuracy=[0.5, 0.4]))[0].name == "loss_to_accuracy"
    assert candidates(table(loss=[1.0, 2.0], error=[0.5, 0.4]))[0].name == "loss_to_error"
    assert candidates(table(tokens=np.geomspace(1, 9, 30), loss=1.0))[0].needs == ("tokens",)
    assert candidates(table("a", step=np.arange(1, 9.0), loss=1.0))[0].over == "step"
    assert candidates(grid(), over="compute")[0].over == "compute"
    size, count = (one.ravel() for one in np.meshgrid([1e7, 4e7, 1.6e8], [1.0, 4.0, 16.0, 64.0, 256.0]))
    routed = table(parameters=size, experts=count, loss=1.0)
    assert [law.name for law in candidates(routed)] == ["mixture_of_experts_floor"]
    assert candidates(routed.where(size < 1e8))[0].name == "mixture_of_experts"  # two sizes show no floor
    repeated = table(parameters=size, tokens=1e9 * count, unique_tokens=4e9, loss=1.0)
    assert [law.name for law in candidates(repeated)] == ["data_constrained"]
    once = repeated.plus(unique_tokens=1e12)
    assert [law.name for law in candidates(once)] == ["chinchilla", "overtraining"]
    passes = repeated.without("unique_tokens").plus(epoch=np.where(count > 4, 4.0, 1.0))
    assert [law.name for law in candidates(passes)] == ["data_constrained"]
    np.testing.assert_allclose(passes.require("unique_tokens")["unique_tokens"], 1e9 * count / passes["epoch"])
    assert [law.name for law in candidates(passes.plus(epoch=1.0))] == ["chinchilla", "overtraining"]
    with pytest.raises(SoonerError, match="there is no loss to predict"):
        candidates(table(step=[1.0]))
    with pytest.raises(SoonerError, match="nothing in loss, width changes"):
        candidates(table(loss=[1.0, 2.0], width=[1.0, 2.0]))


def test_columns_that_change_and_are_not_read_are_told():
    size, count = (one.ravel() for one in np.meshgrid([1e7, 4e7, 1.6e8], [1.0, 4.0, 16.0]))
    routed = table(parameters=size, experts=count, tokens=1e9 * count, loss=1.0)
    assert unread(find("mixture_of_experts"), routed) == {"tokens": (1e9, 1.6e10)}
    assert unread(find("chinchilla"), routed) == {"experts": (1.0, 16.0)}
    assert unread(find("power_floor", "tokens"), routed) == {"experts": (1.0, 16.0)}
    assert unread(find("chinchilla"), routed.plus(experts=8)) == {}
    assert unread(find("annealing"), routed) == {}
    passes = routed.without("experts").plus(epoch=count)
    assert unread(find("chinchilla"), passes) == {"epoch": (1.0, 16.0)}
    assert unread(find("data_constrained"), passes) == {}
    assert unread(find("loss_to_accuracy"), routed.plus(accuracy=0.5)) == {}


def test_a_consensus_follows_a_clear_trend():
    size = np.geomspace(1e6, 1e9, 30)
    rows = table(tokens=size, loss=1 + 100 * size**-0.3)
    made = consensus(rows, "tokens", np.array([4e9]))
    assert 1 < made[0] < rows["loss"][-1]
    assert made[0] == pytest.approx(1 + 100 * 4e9**-0.3, rel=0.02)
    with pytest.raises(SoonerError, match="there are 2 rows"):
        consensus(rows.where(np.arange(30) < 2), "tokens", np.array([4e9]))


def test_a_consensus_is_the_median_of_laws_shrunk_by_their_noise():
    size = np.geomspace(1e6, 1e9, 12)
    shock = np.exp(0.01 * np.random.default_rng(4).standard_normal(12))
    rows, far = table(tokens=size, loss=(1 + 100 * size**-0.3) * shock), table(tokens=[2e9, 8e9])
    fits = [fit(find(name), rows, draws=2) for name in ("power_floor", "m4", "broken_power")]
    change = np.log(np.median([one.at(far) for one in fits], axis=0) / rows["loss"][-1])
    variance = np.median([(one.residuals() ** 2).sum() / (12 - len(one.values)) for one in fits])
    share = change**2 / (change**2 + 2 * variance)
    assert (share > 0.01).all()
    made = fit(Consensus(), rows, draws=20)
    np.testing.assert_allclose(made.at(far), rows["loss"][-1] * np.exp(share * change))
    band = made.predict(far)
    assert ((band.low < band.value) & (band.value < band.high)).all()


def test_a_consensus_keeps_the_last_value_of_a_curve_that_only_jitters():
    size, closer = np.geomspace(1e6, 1e9, 20), 0
    for seed in range(8):
        rows = table(tokens=size, loss=2 * np.exp(0.02 * np.random.default_rng(seed).standard_normal(20)))
        made, last = consensus(rows, "tokens", np.array([4e9]))[0], rows["loss"][-1]
        median = np.median([fit(law, rows, draws=2).at(table(tokens=4e9))[0] for law in Consensus().laws])
        assert abs(made - last) <= abs(median - last)
        closer += abs(made - last) < 0.5 * abs(median - last)
    assert closer >= 4


def test_three_rows_are_too_few_for_a_law_and_the_last_value_stands():
    made = fit(Consensus(), table(tokens=[1.0, 2.0, 4.0], loss=[3.0, 2.5, 2.2]), draws=20)
    assert made.at(table(tokens=[8.0, 9.0])).tolist() == pytest.approx([2.2, 2.2])
    assert made.predict(table(tokens=8.0)).low[0] < 2.2


def test_laws_in_one_quantity_are_tried_with_their_consensus():
    size = np.geomspace(1e6, 1e9, 12)
    laws = candidates(table(tokens=size, loss=2 + 100 * size**-0.3))
    assert [law.name for law in laws] == ["power_floor", "m4", "broken_power", "consensus"]
    assert [law.name for law in candidates(table(tokens=size[:6], loss=2.0 + size[:6] ** -0.3))] == ["power_floor"]


def test_too_few_rows_and_missing_columns_are_refused():
    with pytest.raises(SoonerError, match="has 5 parameters and the table 1 row;"):
        fit(find("chinchilla"), table(parameters=1e9, tokens=1e9, loss=2.0))
    with pytest.raises(SoonerError, match="the column 'tokens' is missing"):
        fit(find("chinchilla"), table(parameters=[1e9] * 6, loss=[2.0] * 6))
    with pytest.raises(SoonerError, match=r"tokens is -1 in row 2"):
        fit(find("power_floor"), table(tokens=[1.0, -1, 2], loss=[1.0, 1, 1]))
    with pytest.raises(SoonerError, match=r"no law 'chinchila' \(did you mean 'chinchilla'\?\)"):
        find("chinchila")
    with pytest.raises(SoonerError, match="leave --over out"):
        find("chinchilla", "tokens")
