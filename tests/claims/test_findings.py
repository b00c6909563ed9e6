"""Figures that criteria ask of findings: ratios, shares, misses, edges, and what can't be said."""

import math

import pytest

from sooner.claims._findings import Findings, shortened, times


def contender(recipe, steps, *, edge=(), status="raced", values=(2.0, 2.0), state=8.0):
    hits = sum(s is not None for s in steps)
    middle = {"ratio": 0.5, "low": 0.4, "high": 0.6, "p": 0.01, "p_holm": 0.02, "hits": hits, "of": len(steps)}
    return {
        "recipe": recipe,
        "status": status,
        "why_out": "its loss became NaN" if status == "out" else None,
        "targets": {"middle": {**middle, "steps": list(steps)}},
        "tuning": {"edge": list(edge)},
        "final": {"values": list(values)},
        "state_bytes_per_parameter": state,
    }


def race(*contenders, target=1.0):
    return {"contenders": contenders, "targets": {"middle": target}, "noise_floor": {"low": 0.9, "high": None}}


def findings(*contenders, **options):
    return Findings({"race": race(*contenders, **options)})


def test_the_ratio_to_the_baseline_is_the_referees_own():
    found = findings(contender("adamw", [10, 10]), contender("muon", [5, 5])).steps_ratio("race", "muon")
    assert (found.value, found.low, found.high, found.p, found.unit) == (0.5, 0.4, 0.6, 0.02, "x")
    assert found.floor == (0.9, math.inf)
    assert not found.undecided


def test_two_contenders_are_compared_seed_by_seed():
    f = findings(contender("adamw", [1] * 6), contender("a", [8] * 6), contender("b", [4, 5, 4, 5, 4, 5]))
    found = f.steps_ratio("race", "b", against="a")
    assert found.value == pytest.approx(math.sqrt(20) / 8)
    assert found.p == pytest.approx(1 / 32)


def test_what_a_race_cannot_say_stays_open():
    cases = [
        (findings(contender("x", [1, 1]), contender("muon", [1, 1]), target=None), "no middle target"),
        (findings(contender("x", [1, 1]), contender("muon", [1, 1], status="out")), "muon is out: its loss"),
        (findings(contender("x", [None, None]), contender("muon", [1, None])), "neither side"),
        (findings(contender("x", [1, 1], edge=["lr"]), contender("muon", [1, 1])), "x was tuned to the edge"),
    ]
    for f, words in cases:
        assert words in f.steps_ratio("race", "muon").undecided


def test_what_is_infinite_stays_infinite_at_both_ends():
    f = findings(contender("x", [1] * 6), contender("y", [None] * 6), contender("z", [2] * 6))
    missed = f.steps_ratio("race", "y", against="x")
    assert (missed.value, missed.low, missed.high) == (math.inf, math.inf, math.inf)
    alone = f.steps_ratio("race", "z", against="y")
    assert (alone.value, alone.low, alone.high) == (0.0, 0.0, 0.0)


def test_an_edge_of_the_winner_leaves_nothing_open():
    assert (
        not findings(contender("x", [1, 1]), contender("muon", [1, 1], edge=["lr"]))
        .steps_ratio("race", "muon")
        .undecided
    )


def test_contenders_are_found_by_recipe_or_by_its_beginning():
    f = findings(contender("adamw", [1]), contender("adamw(lr=log(1, 2))", [2]), contender("muon + linear", [3]))
    assert f.row("race", "adamw")["targets"]["middle"]["steps"] == [1]
    assert f.row("race", "adamw( lr")["targets"]["middle"]["steps"] == [2]
    assert f.row("race", "muon")["recipe"] == "muon + linear"
    with pytest.raises(KeyError, match="0 contenders"):
        f.row("race", "sgd")


def test_other_figures_of_a_race():
    f = findings(contender("x", [1, None], values=(2.0, 8.0)), contender("y", [1, 1], values=(1.0, 4.0), state=2.0))
    assert f.final_ratio("race", "y").value == pytest.approx(0.5)
    assert f.state_ratio("race", "y").value == 0.25
    assert f.hits("race", "x").value == 0.5
    assert findings(contender("x", [1]), contender("y", [1], status="out")).hits("race", "y").value == 0.0


def cases(**columns):
    rows = zip(*columns.values(), strict=True)
    return Findings(
        {"m": {"cases": [{"case": {"arm": arm, "seed": seed}, "values": {"n": n}} for arm, seed, n in rows]}}
    )


def test_measurements_are_paired_in_their_order():
    f = cases(arm=["a", "b"] * 3, seed=[0, 0, 1, 1, 2, 2], n=[2, 1, 4, 2, 8, 4])
    assert f.paired_ratio("m", "n", {"arm": "b"}, {"arm": "a"}).value == pytest.approx(0.5)
    assert f.paired_difference("m", "n", {"arm": "b"}, {"arm": "a"}).value == pytest.approx(-7 / 3)
    assert f.mean("m", "n", arm="a").value == pytest.approx(14 / 3)
    assert f.mean("m", "n", arm="a", seed=0).low is None
    assert f.values("m", "n", seed=1) == [4, 2]
    assert f.paired_ratio("m", "n", {"arm": "c"}, {"arm": "a"}).undecided
    assert f.mean("m", "n", arm="c").undecided


def test_a_miss_is_infinite_and_two_misses_say_nothing():
    missed = cases(arm=["a", "b"] * 2, seed=[0, 0, 1, 1], n=[3, None, 3, None])
    assert missed.paired_ratio("m", "n", {"arm": "b"}, {"arm": "a"}).value == math.inf
    both = cases(arm=["a", "b"], seed=[0, 0], n=[None, None])
    assert both.paired_ratio("m", "n", {"arm": "b"}, {"arm": "a"}).undecided


def test_extra_passes_are_charged_on_the_whole_interval():
    found = times(findings(contender("x", [1, 1]), contender("y", [1, 1])).steps_ratio("race", "y"), 2.0)
    assert (found.value, found.low, found.high) == (1.0, 0.8, 1.2)


def test_only_the_mean_of_the_curves_is_kept():
    row = {
        **contender("x", [1]),
        **dict.fromkeys(("tuned_recipe", "baseline", "verdict", "sentence", "seeds", "smallest_effect")),
        "curves": [{"steps": [0, 5, 9], "values": [4.0, 2.0, None]}, {"steps": [0, 5, 9], "values": [2.0, 1.0, 1.0]}],
    }
    row["tuning"] = dict.fromkeys(("best", "knobs", "edge", "widened", "steps"))
    result = dict.fromkeys(("rules", "task", "regime", "horizons", "seeds", "primary_target", "tuning_trials"))
    kept = shortened({**race(row), **result, "notes": []})
    assert kept["contenders"][0]["curve"] == {
        "steps": [0, 5],
        "mean": [3.0, 1.5],
        "low": [2.0, 1.0],
        "high": [4.0, 2.0],
    }


def sender(recipe, steps, wire, gradients=1.0):
    sent = {"wire_bytes_per_step": wire, "gradients_per_step": gradients, "drift": None}
    return {**contender(recipe, steps), "communication": sent}


def test_bytes_and_gradients_to_the_target_are_steps_times_what_each_takes():
    f = findings(sender("adamw", [10, 10], 100.0), sender("adamw + sam", [5, 5], 20.0, gradients=2.0))
    found = f.bytes_ratio("race", "adamw + sam")
    assert (found.value, found.low) == pytest.approx((0.5 * 0.2, 0.4 * 0.2))
    assert f.gradients_ratio("race", "adamw + sam").value == 1.0
    assert f.communicated("race", "adamw + sam", "wire_bytes_per_step").value == 0.2


def test_the_p_value_of_bytes_is_that_of_bytes():
    """As many steps to the day, in every seed a hundredth of the bytes: steps show no difference, bytes do."""
    steps = [10, 11, 9, 10, 12, 10, 9, 11]
    rivals = [sender("adamw + silent", steps, 0.0), contender("muon", steps)]
    f = findings(sender("adamw", steps, 100.0), sender("adamw + sam", steps, 1.0), *rivals)
    assert f.bytes_ratio("race", "adamw + sam").p == pytest.approx(2**-7)
    assert f.bytes_ratio("race", "adamw + sam", against="adamw").p == pytest.approx(2**-7)
    assert f.steps_ratio("race", "adamw + sam", against="adamw").p == 1.0


def test_what_was_not_sent_or_not_measured_has_no_ratio():
    f = findings(sender("adamw", [1], 0.0), sender("adamw + sam", [1], 1.0), contender("muon", [1]))
    assert "wire_bytes_per_step" in f.bytes_ratio("race", "adamw + sam").undecided
    assert "drift" in f.communicated("race", "adamw + sam", "drift").undecided
    assert "gradients_per_step" in f.gradients_ratio("race", "muon").undecided


def test_parts_may_be_written_in_another_order_than_the_race_writes_them():
    f = findings(contender("adamw", [1]), contender("fp16 + adamw", [2]))
    assert f.row("race", "adamw + fp16")["targets"]["middle"]["steps"] == [2]
