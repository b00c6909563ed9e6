"""One whole race on `quadratic`: everything the report needs is in the result, and it is what the rules say."""

import itertools
import json
import math

from forked_workers import ForkedPool
from small_races import cells, small_plan

from sooner.race.journal import read
from sooner.race.referee import run
from sooner.race.statistics import RatioSummary

FIELDS = {
    "rules": str,
    "task": dict,
    "regime": str,
    "horizons": list,
    "workers": int,
    "world": int,
    "command": str,
    "started": str,
    "finished": str,
    "versions": dict,
    "machine": dict,
    "seeds": dict,
    "looks": list,
    "until": type(None),
    "intervals": dict,
    "tuner": str,
    "tuning_trials": int,
    "targets": dict,
    "primary_target": str,
    "noise_floor": dict,
    "timing": dict,
    "contenders": list,
    "a/a_curves": list,
    "failures": list,
    "notes": list,
}
CONTENDER = {
    "recipe",
    "tuned_recipe",
    "baseline",
    "status",
    "why_out",
    "verdict",
    "sentence",
    "communication",
    "seeds",
    "targets",
    "smallest_effect",
    "final",
    "cost",
    "time_ratio",
    "ratio_with_tuning",
    "peak_memory_mib",
    "state_bytes_per_parameter",
    "hit_rate",
    "tuning",
    "curves",
}
TASK = {
    "name",
    "spec",
    "description",
    "metric",
    "higher_is_better",
    "steps",
    "parameters",
    "fingerprint",
    "data",
}
TUNING = {"best", "default", "knobs", "edge", "widened", "steps", "trials", "expected_best"}
RATIO = set(RatioSummary.__annotations__)
FINAL = {"mean", "sd", "values", "difference", "low", "high", "p", "p_holm", "smallest_difference", "word", "sentence"}


def named(result, recipe):
    return next(c for c in result["contenders"] if c["recipe"] == recipe)


def test_the_result_has_every_field_and_is_strict_json(finished):
    _, _, result = finished
    assert {key: type(value) for key, value in result.items()} == FIELDS
    assert set(result["task"]) == TASK
    assert set(result["noise_floor"]) == RATIO | {"verdict"}
    assert set(result["timing"]) == {"withheld", "why", "blocks"}
    assert set(result["versions"]) == {"sooner", "python", "torch", "numpy"}
    assert set(result["machine"]) == {"processor", "cores", "memory_gib", "system"}
    for c in result["contenders"]:
        assert set(c) == CONTENDER
        assert set(c["tuning"]) == TUNING
        assert set(c["final"]) == FINAL
        assert all(set(t) == RATIO | {"p_holm"} for t in c["targets"].values())
        assert all(set(curve) == {"seed", "steps", "values", "diverged_at"} for curve in c["curves"])
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_the_result_says_what_raced_where(finished):
    plan, _, result = finished
    assert result["task"]["name"] == result["task"]["spec"] == "quadratic"
    assert (result["task"]["steps"], result["task"]["parameters"]) == (40, 100)
    assert result["task"]["fingerprint"] == plan.checked["fingerprint"]
    assert "100 dimensions" in result["task"]["data"]
    assert (result["regime"], result["horizons"], result["looks"]) == ("anytime", [40], [8])
    assert result["command"] == "sooner race"
    assert result["started"] <= result["finished"]
    assert result["failures"] == []


def test_seed_sets_are_disjoint_and_only_racing_seeds_are_reported(finished):
    _, _, result = finished
    seeds = result["seeds"]
    assert {purpose: len(some) for purpose, some in seeds.items()} == {"tuning": 1, "target": 10, "racing": 8, "a/a": 8}
    assert all(not set(a) & set(b) for a, b in itertools.combinations(seeds.values(), 2))
    for c in result["contenders"]:
        assert [curve["seed"] for curve in c["curves"]] == (seeds["racing"] if c["status"] == "raced" else [])
    assert [curve["seed"] for curve in result["a/a_curves"]] == seeds["a/a"]


def test_all_contenders_that_tune_get_as_many_trials(finished):
    _, watch, result = finished
    tuned = [c for c in result["contenders"] if c["tuning"]["knobs"]]
    pinned = [c for c in result["contenders"] if not c["tuning"]["knobs"]]
    assert len(tuned) == len(pinned) == 2
    assert {len(c["tuning"]["trials"]) for c in tuned} == {1 + 3 + 2}  # the default, --tune, and half of it again
    assert {len(c["tuning"]["trials"]) for c in pinned} == {1}
    assert result["tuning_trials"] == 6
    assert len(watch.phases["tuning in a wider range"]) == 4
    assert [c["tuning"]["widened"] for c in tuned] == [
        True,
        False,
    ]  # one was on an edge: the range is wider for it only
    highest = max(trial["settings"]["lr"] for trial in tuned[0]["tuning"]["trials"])
    assert highest > max(0.05, tuned[0]["tuning"]["default"]["lr"])
    assert tuned[0]["tuning"]["steps"] == 6 * 40
    assert all(len(c["tuning"]["expected_best"]) == len(c["tuning"]["trials"]) for c in result["contenders"])
    for c in tuned:
        scores = [trial["score"] for trial in c["tuning"]["trials"]]
        assert c["tuning"]["best"] == c["tuning"]["trials"][scores.index(min(scores))]["settings"]


def test_nobody_is_widened_when_nobody_is_on_an_edge(race):
    result = race("sgd(lr=log(0.001, 10))", "sgd(lr=0.05)", tune=3)
    assert named(result, "sgd(lr=log(0.001, 10))")["tuning"]["edge"] == []
    assert [len(c["tuning"]["trials"]) for c in result["contenders"]] == [4, 1]
    assert not any(c["tuning"]["widened"] for c in result["contenders"])


def test_a_contender_that_diverges_is_out_and_the_race_goes_on(finished):
    _, _, result = finished
    lost = named(result, "sgd(lr=1000000.0)")
    assert (lost["status"], lost["verdict"], lost["seeds"]) == ("out", "out", 0)
    step = lost["tuning"]["trials"][0]["diverged_at"]
    assert 1 <= step <= 40
    assert f"at step {step} with sgd(lr=1000000.0)" in lost["why_out"]
    assert lost["why_out"] in lost["sentence"]
    assert lost["tuning"]["expected_best"] == [None]
    assert (lost["targets"], lost["curves"], lost["final"]["values"]) == ({}, [], [])
    assert named(result, "torch.optim.NAdam(lr=log(0.01, 1.0))")["status"] == "raced"


def test_a_torch_class_is_tuned_raced_and_wins(finished):
    _, _, result = finished
    winner = named(result, "torch.optim.NAdam(lr=log(0.01, 1.0))")
    assert winner["verdict"] == "faster"
    assert winner["tuned_recipe"] == f"torch.optim.NAdam(lr={winner['tuning']['best']['lr']!r})"
    middle = winner["targets"]["middle"]
    assert middle["low"] <= middle["ratio"] <= middle["high"] < 1
    assert middle["p"] == 2**-7  # all 8 signs alike: 2 of 256 patterns
    assert middle["p_holm"] == 2 * middle["p"]  # two rivals raced; the third is out
    assert (middle["hits"], middle["of"], winner["hit_rate"]) == (8, 8, 1.0)
    baseline = result["contenders"][0]["targets"]["middle"]["steps"]
    mean = sum(math.log(a / b) for a, b in zip(middle["steps"], baseline, strict=True)) / 8
    assert math.isclose(middle["ratio"], math.exp(mean))
    assert winner["final"]["difference"] < 0
    assert winner["final"]["word"] == "better"
    assert winner["final"]["sentence"].startswith(
        f"ends {-winner['final']['difference']:.3g} below sgd(lr=0.02) in loss"
    )
    assert 0 < winner["final"]["smallest_difference"] < -winner["final"]["difference"]
    assert result["intervals"] == {"level": 0.95, "kind": "at one look"}
    assert winner["ratio_with_tuning"] > 1  # six trials cost more than the race saved
    assert winner["state_bytes_per_parameter"] > 8
    assert 0 < winner["smallest_effect"] < 1


def test_the_baseline_is_compared_with_nobody(finished):
    _, _, result = finished
    baseline = result["contenders"][0]
    assert (baseline["baseline"], baseline["verdict"], baseline["status"]) == (True, "baseline", "raced")
    assert baseline["targets"]["middle"]["ratio"] == 1
    assert {baseline["final"][k] for k in ("difference", "low", "high", "p", "p_holm")} == {None}
    assert baseline["smallest_effect"] is None
    assert baseline["final"]["mean"] > 0
    assert [c["baseline"] for c in result["contenders"]] == [True, False, False, False]


def test_targets_tighten_and_the_a_a_arm_finds_no_difference(finished):
    _, _, result = finished
    targets = result["targets"]
    assert result["primary_target"] == "middle"
    assert targets["loose"] > targets["middle"] > targets["tight"] > 0
    floor = result["noise_floor"]
    assert floor["low"] < 1 < floor["high"]
    assert floor["verdict"] == "no difference found"
    assert floor["of"] == 8


def test_pinned_recipes_are_noted_as_untuned(finished):
    _, _, result = finished
    assert "sgd(lr=0.02) has no hyper-parameter left to tune: it races as written, untuned" in result["notes"]


def test_a_repeat_with_one_job_is_bit_identical(finished, tmp_path, zygote):
    plan, _, result = finished
    again = small_plan(tmp_path / "again", *map(str, plan.recipes), tune=3, looks=(8,), jobs=1, command="sooner race")
    with ForkedPool(zygote, 1) as one:
        repeat = run(again, None, one)
    assert cells(read(again.folder())) == cells(read(plan.folder()))
    assert [key for key in result if result[key] != repeat[key] and key not in ("started", "finished")] == []
