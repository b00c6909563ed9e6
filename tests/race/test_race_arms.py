"""What a comparison of communication must also race, and what a plan of several workers says of itself."""

import pytest
from small_races import small_plan

import sooner
from sooner.race.arms import with_arms
from sooner.recipe import Recipe


def texts(*recipes):
    return [str(r) for r in with_arms([Recipe(text) for text in recipes])]


def test_recipes_that_send_nothing_special_need_no_arms():
    assert texts("adamw", "muon + cosine") == ["adamw", "muon + cosine"]


def test_the_arms_of_codecs():
    assert texts("adamw", "sgd + top_k + ef21") == ["adamw", "top_k + ef21 + sgd", "fp16 + adamw", "silent + adamw"]


def test_dense_averaging_becomes_the_baseline():
    assert texts("sgd + sign + ef")[:2] == ["sgd", "sign + ef + sgd"]
    assert texts("sgd + sign + ef", "sgd")[:2] == ["sgd", "sign + ef + sgd"]
    assert texts("sgd + dense", "sgd + fp16") == ["dense + sgd", "fp16 + sgd", "silent + sgd"]


def test_outer_contenders_meet_local_sgd_with_their_window_and_outer_momentum_alone():
    assert texts("adamw", "muon + diloco(every=20) + fp16") == [
        "adamw",
        "fp16 + diloco(every=20) + muon",
        "fp16 + adamw",
        "local_sgd(every=20) + muon",
        "snoo(every=20) + muon",
        "silent + adamw",
    ]
    made = texts("sgd", "sgd + local_sgd(every=7)")
    assert made == ["sgd", "local_sgd(every=7) + sgd", "fp16 + sgd", "silent + sgd"]


def test_a_window_that_is_tuned_is_tuned_for_the_arms_too():
    arms = with_arms([Recipe("sgd"), Recipe("sgd + diloco(every=choice(5, 10))")])
    (local,) = [r for r in arms if "local_sgd" in str(r)]
    assert str(local) == "local_sgd(every=choice(5, 10)) + sgd"
    unset = with_arms([Recipe("sgd"), Recipe("sgd + diloco")])
    window = next(s for r in unset for s in r.slots if s.name == "diloco")
    for name in ("local_sgd", "snoo"):
        arm = next(s for r in unset for s in r.slots if s.name == name)
        assert arm.space.get("every") == window.space.get("every")
        assert arm.settings.get("every", window.default("every")) == window.default("every")


def test_who_takes_part_is_the_same_in_the_arms():
    made = texts("sgd + local_sgd(every=5) + sampled(share=0.5)", "sgd + diloco(every=5) + sampled(share=0.5)")
    assert "sampled(share=0.5) + local_sgd(every=5) + sgd" in made
    assert made[0] == "sgd"


def test_several_workers_are_part_of_the_identity_and_one_is_not(tmp_path):
    one = small_plan(tmp_path / "a", "sgd(lr=0.02)").identity()
    assert not {"world", "workers"} & set(one)
    assert small_plan(tmp_path / "b", "sgd(lr=0.02)", world=2).identity() == {**one, "world": 2}
    assert small_plan(tmp_path / "c", "sgd(lr=0.02)", workers=3).identity() == {**one, "workers": 3}


def test_leaving_the_arms_out_is_told(tmp_path):
    recipes = ("sgd(lr=0.02)", "sgd(lr=0.02) + top_k")
    without = small_plan(tmp_path / "a", *recipes, world=2)
    assert [str(r) for r in without.recipes] == ["sgd(lr=0.02)", "top_k + sgd(lr=0.02)"]
    assert any("nobody had to beat fp16 + sgd(lr=0.02), silent + sgd(lr=0.02)" in note for note in without.warnings())
    arms = small_plan(tmp_path / "b", *recipes, world=2, arms=True)
    assert len(arms.recipes) == 4
    assert not any("nobody had to beat" in note for note in arms.warnings())
    alone = small_plan(tmp_path / "c", *recipes, arms=True)
    assert len(alone.recipes) == 2


def test_processes_and_simulated_workers_do_not_mix(tmp_path):
    with pytest.raises(sooner.SoonerError, match="world 2 are processes, and workers 3 are simulated in one; give one"):
        small_plan(tmp_path, "sgd(lr=0.02)", world=2, workers=3)
    with pytest.raises(sooner.SoonerError, match=r"world is 0; choose a number from 1 to 64"):
        small_plan(tmp_path, "sgd(lr=0.02)", world=0)


def test_what_only_a_simulated_cluster_has_is_refused_before_the_race(tmp_path):
    with pytest.raises(sooner.SoonerError, match=r"sampled says which of many simulated workers .* --workers"):
        small_plan(tmp_path, "sgd", "sgd + local_sgd(every=5) + sampled", world=2)
