"""The rules of docs/race-rules.md at work: regimes, looks, stacks, directions, small budgets, failures, other seeds."""

import re

import pytest
from forked_workers import ForkedPool
from small_races import LINE, Inline, Notes, small_plan, written

import sooner
from sooner.error import SoonerError
from sooner.race.evidence import Contender, Evidence
from sooner.race.journal import read
from sooner.race.referee import run
from sooner.task import derived_seed
from sooner.workloads import find

CLEAR = ("sgd(lr=0.01)", "sgd(lr=0.03)")
"""Two contenders that a few seeds tell apart."""


def by_recipe(result):
    return {c["recipe"]: c for c in result["contenders"]}


def test_one_long_run_stands_for_every_horizon_and_decaying_recipes_run_each(race, tmp_path):
    watch = Notes()
    recipes = ("sgd(lr=0.05)", "sgd(lr=0.1) + cosine")
    result = race(*recipes, watch=watch)
    assert result["regime"] == "budgeted"
    assert result["horizons"] == [10, 14, 20, 28, 40, 56]
    racing = watch.phases["racing on 6 seeds"]
    assert sum("cosine" in key for key in racing) == 6 * 6
    assert sum("cosine" not in key for key in racing) == 6 + 6  # the race and the A/A arm

    plan = small_plan(tmp_path / "race", *recipes)
    constant, decaying = (Contender(recipe, settings={}) for recipe in plan.recipes)
    evidence = Evidence(plan, read(tmp_path / "race"), [constant, decaying])
    seed = plan.seeds("racing")[0]
    for contender in (constant, decaying):
        for horizon in plan.horizons:
            alone = sooner.train(plan.task, contender.recipe, seed, horizon)
            assert evidence.final(contender, "racing", 0, horizon) == alone.values[-1]


def test_in_the_budgeted_regime_steps_to_target_lie_on_the_ladder(race):
    result = race("sgd(lr=0.1) + cosine", "sgd(lr=0.02) + cosine", looks=(8,))
    for c in result["contenders"]:
        steps = [s for t in c["targets"].values() for s in t["steps"] if s is not None]
        assert all(10 <= s <= 56 for s in steps)
    assert by_recipe(result)["sgd(lr=0.02) + cosine"]["verdict"] == "slower"
    assert any("budgeted regime" in note for note in result["notes"])


def test_a_decided_contender_gets_no_more_seeds_and_keeps_its_verdict(race):
    close = "sgd(lr=0.01, weight_decay=0.0)"  # the baseline under another name: every difference is 0
    result = race(*CLEAR, close, looks=(8, 12), steps=60)
    found = by_recipe(result)
    assert [found[r]["seeds"] for r in (*CLEAR, close)] == [12, 8, 12]
    assert found[CLEAR[1]]["verdict"] == "faster"
    assert found[CLEAR[1]]["targets"]["middle"]["of"] == 8
    assert found[CLEAR[1]]["targets"]["middle"]["p_holm"] == 2 * 2**-7  # of the look that settled it
    assert len(result["a/a_curves"]) == 12
    assert result["looks"] == [8, 12]


def test_the_race_ends_early_when_all_are_decided_and_the_level_is_divided(race):
    both = race(*CLEAR, looks=(8, 12), steps=60)
    assert [c["seeds"] for c in both["contenders"]] == [8, 8]
    assert len(both["a/a_curves"]) == both["noise_floor"]["of"] == 8
    once = race(*CLEAR, looks=(8,), steps=60, folder="once")
    wide, narrow = (r["contenders"][1]["targets"]["middle"] for r in (both, once))
    assert wide["low"] < narrow["low"] < narrow["high"] < wide["high"]  # 97.5 % against 95 %
    assert wide["steps"] == narrow["steps"]


def test_a_race_until_decided_stops_after_any_seed(race):
    close = "sgd(lr=0.01, weight_decay=0.0)"
    watch = Notes()
    result = race(*CLEAR, close, until=11, steps=60, watch=watch)
    found = by_recipe(result)
    assert [found[r]["seeds"] for r in (*CLEAR, close)] == [11, 8, 11]  # with two rivals, 8 equal signs decide
    assert list(watch.phases)[-6:] == [f"racing on {n} seeds" for n in range(6, 12)]
    assert [len(watch.phases[f"racing on {n} seeds"]) for n in (6, 7, 8, 9, 10, 11)] == [24, 4, 4, 3, 3, 3]
    winner = found[CLEAR[1]]["targets"]["middle"]
    assert (found[CLEAR[1]]["verdict"], winner["of"]) == ("faster", 8)
    assert 0.025 < winner["p_holm"] <= 0.05
    assert found[close]["verdict"] == "no difference found"
    assert (result["looks"], result["until"]) == (list(range(6, 12)), 11)
    assert result["intervals"] == {"level": 0.95, "kind": "after every seed"}
    alone = race(*CLEAR, until=64, steps=60, folder="alone")
    assert [c["seeds"] for c in alone["contenders"]] == [7, 7]
    assert len(alone["a/a_curves"]) == 7


def test_a_clear_pair_inside_the_a_a_interval_is_believed_and_noted(race):
    result = race("sgd(lr=0.01)", "sgd(lr=0.0105)", looks=(8,), steps=60)
    near = result["contenders"][1]
    assert near["verdict"] == "faster"
    assert result["noise_floor"]["low"] < near["targets"]["middle"]["ratio"] < 1
    assert any("the pairs tell it from the baseline, but single runs would not" in note for note in result["notes"])


def test_a_verdict_needs_the_level_of_one_look(tmp_path):
    assert small_plan(tmp_path, *CLEAR, looks=(6,)).alpha == 0.05
    plan = small_plan(tmp_path, *CLEAR, looks=(6, 12))
    assert plan.alpha == 0.025
    assert plan.warnings() == [f"{r} has no hyper-parameter left to tune: it races as written, untuned" for r in CLEAR]
    always = small_plan(tmp_path, *CLEAR, until=12)
    assert (always.alpha, list(always.looks), always.seeds("racing")[-1]) == (0.05, list(range(6, 13)), 30_011)
    assert always.identity()["until"] == 12
    assert "until" not in plan.identity()
    few = small_plan(tmp_path, *CLEAR, "adamw", looks=(6,))
    assert "6 seeds cannot give any of 2 contenders a verdict after correction; at least 7 are needed" in few.warnings()


def test_ablation_adds_every_stack_with_one_part_left_out_once(tmp_path):
    stacks = ("adamw", "sgd + cosine", "sgd + linear")
    names = [str(r) for r in small_plan(tmp_path, *stacks, ablate=True).recipes]
    assert names == [*stacks, "adamw + cosine", "sgd", "adamw + linear"]
    given = [sooner.Recipe(text) for text in ("adamw", "sgd + cosine")]
    sooner.race.plan.Plan(find("quadratic"), given, ablate=True, out=tmp_path)
    assert len(given) == 2  # the caller's list is left alone


def test_a_winning_stack_is_not_believed_before_ablation(race):
    stack = "sgd(lr=0.1) + constant"
    result = race("adamw(lr=0.02)", stack, looks=(8,))
    assert by_recipe(result)[stack]["verdict"] == "faster"
    doubt = [note for note in result["notes"] if "--ablate" in note]
    assert doubt == [f"{stack} differs from the baseline in 2 parts; race with --ablate to learn which of them matters"]
    result = race("adamw(lr=0.02)", stack, looks=(8,), ablate=True, folder="ablated")
    assert len(result["contenders"]) == 4
    assert not any("--ablate" in note for note in result["notes"])


def test_a_metric_where_higher_is_better(race, tmp_path):
    closeness = """
def metrics(model, batch):
    return {"closeness": torch.exp(-loss(model, batch))}
metric, higher_is_better = "closeness", True
"""
    task = written(tmp_path, LINE + closeness)
    result = race("sgd(lr=0.02, momentum=0.0)", "sgd(lr=0.08, momentum=0.0)", task=task, looks=(8,))
    targets = result["targets"]
    assert 0 < targets["loose"] < targets["middle"] < targets["tight"] < 1
    fast = result["contenders"][1]
    assert fast["verdict"] == "faster"
    assert fast["final"]["difference"] > 0
    assert fast["curves"][0]["values"][-1] > fast["curves"][0]["values"][0]
    tuned = race("sgd(lr=log(1e-4, 1e-2))", task=task, folder="tuned")["contenders"][0]["tuning"]
    scores = [trial["score"] for trial in tuned["trials"]]
    assert tuned["best"] == tuned["trials"][scores.index(max(scores))]["settings"]
    assert tuned["expected_best"][-1] == max(scores)


def test_a_task_that_learns_nothing_has_no_targets_and_says_so(race, tmp_path):
    task = written(tmp_path, LINE.replace("return ((", "return 1 + 0 * (("))
    result = race(*CLEAR, task=task)
    assert set(result["targets"].values()) == {None}
    rival = result["contenders"][1]
    assert rival["verdict"] == "too noisy"
    assert "the budget of 40 steps is too small" in rival["sentence"]
    assert (rival["targets"]["middle"]["ratio"], rival["hit_rate"], rival["ratio_with_tuning"]) == (None, 0.0, None)
    assert result["noise_floor"]["verdict"] == "too noisy"
    assert any(note.startswith("there is no loose and no middle and no tight target") for note in result["notes"])


def test_a_baseline_that_diverges_ends_the_race_in_one_sentence(race):
    with pytest.raises(SoonerError, match=r"the baseline sgd\(lr=1000000.0\) can't race: its loss became NaN.*at step"):
        race("sgd(lr=1e6)", "adamw")


def test_another_series_is_the_same_race_on_other_seeds(race, tmp_path):
    first, second = race(*CLEAR), race(*CLEAR, series=1, folder="second")
    assert all(not set(first["seeds"][kind]) & set(second["seeds"][kind]) for kind in first["seeds"])
    values = [result["contenders"][0]["final"]["values"] for result in (first, second)]
    assert not set(values[0]) & set(values[1])


def test_a_baseline_alone_measures_its_own_noise(race):
    result = race("adamw(lr=0.03)", looks=(6, 8))
    assert len(result["contenders"]) == 1
    assert result["noise_floor"]["of"] == 8  # with nobody to decide on, all seeds declared are run
    assert result["noise_floor"]["low"] < 1 < result["noise_floor"]["high"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"looks": (5,)}, "racing seeds: 5 can't tell luck from merit"),
        ({"looks": ()}, "must be different numbers of seeds in ascending order"),
        ({"looks": (12, 8)}, "must be different numbers of seeds in ascending order"),
        ({"looks": (2000,)}, "racing seeds: 2000 are too many"),
        ({"until": 7}, "--until 7: a race that is judged after every seed needs room"),
        ({"until": 201}, "choose a number from 8 to 200"),
        ({"until": 64, "looks": (8, 16)}, "so looks [8, 16] have no meaning"),
        ({"steps": 9}, "a budget of 9 steps is too short"),
        ({"steps": 10**10}, "more than any race ends in"),
        ({"tune": -1}, "tune is -1; choose a number from 0 to 10,000"),
        ({"jobs": 0}, "jobs is 0"),
        ({"series": -1}, "series is -1"),
        ({"regime": "sometimes"}, "regime 'sometimes' is unknown"),
    ],
)
def test_a_plan_that_makes_no_race_is_refused(tmp_path, options, sentence):
    with pytest.raises(SoonerError, match=re.escape(sentence)):
        small_plan(tmp_path, "adamw", "sgd", **options)


def test_recipes_that_make_no_race_are_refused(tmp_path):
    with pytest.raises(SoonerError, match="at least one recipe"):
        small_plan(tmp_path)
    with pytest.raises(SoonerError, match="'adamw' is listed twice"):
        small_plan(tmp_path, "adamw", "sgd", "adamw")
    with pytest.raises(SoonerError, match=r"'sgd \+ cosine' decays towards a fixed end.*--regime budgeted"):
        small_plan(tmp_path, "adamw", "sgd + cosine", regime="anytime")
    with pytest.raises(SoonerError, match="muon finds no hidden weight matrix"):
        small_plan(tmp_path, "adamw", "muon")
    with pytest.raises(SoonerError, match="adamw: lr='b' is not a number"):
        small_plan(tmp_path, "sgd", "adamw(lr=choice('a', 'b'))")


def test_a_task_that_cannot_race_is_refused(tmp_path):
    short = written(tmp_path, LINE, "short.py")
    with pytest.raises(SoonerError, match="has no batch 69"):
        small_plan(tmp_path, "adamw", task=short, steps=70)
    with pytest.raises(SoonerError, match="has no batch 62"):  # the longest run of the ladder: 1.4 x 45
        small_plan(tmp_path, "adamw + cosine", task=short, steps=45)
    coarse = written(tmp_path, LINE + "evaluations = 3\n", "coarse.py")
    with pytest.raises(SoonerError, match="evaluations = 3 is too few"):
        small_plan(tmp_path, "adamw", task=coarse)
    assert small_plan(tmp_path, "adamw + cosine", task=coarse).regime == "budgeted"
    brief = written(tmp_path, LINE.replace("steps = 40", "steps = 5"), "brief.py")
    with pytest.raises(SoonerError, match="a budget of 5 steps is too short"):
        small_plan(tmp_path, "adamw", task=brief, steps=None)


TROUBLE = '''
import os, pathlib, torch
class Fragile(torch.optim.SGD):
    """SGD that fails as the file beside it says."""
    def step(self, closure=None):
        how, _, where = pathlib.Path({mode!r}).read_text().partition(" ")
        if where in ("", str(torch.initial_seed()), str(self.param_groups[0]["lr"])):
            if how == "raise":
                raise RuntimeError("a cable came loose")
            if how == "die":
                os._exit(7)
        return super().step(closure)
'''


@pytest.fixture
def fragile(tmp_path, monkeypatch):
    """Sets how an optimizer `fragile.Fragile` fails: "raise", "die", or "fine", everywhere or for one seed or lr."""
    (tmp_path / "fragile.py").write_text(TROUBLE.format(mode=str(tmp_path / "mode")))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "fragile", raising=False)
    return lambda text: (tmp_path / "mode").write_text(text)


def test_a_contender_whose_worker_dies_is_out_after_one_retry(fragile, tmp_path, zygote):
    fragile("die")
    plan = small_plan(tmp_path / "race", "sgd(lr=0.02)", "fragile.Fragile(lr=0.02)", tune=0, jobs=1)
    watch = Notes()
    with ForkedPool(zygote, 1) as pool:
        result = run(plan, watch, pool)
    lost = result["contenders"][1]
    assert (lost["status"], lost["why_out"]) == ("out", "its runs failed: exit code 7, 2 times")
    assert [failure["cause"] for failure in result["failures"]] == ["exit code 7, 2 times"]
    assert [failure["cell"] for failure in result["failures"]] == list(watch.lost)
    assert result["contenders"][0]["status"] == "raced"


def test_a_failed_trial_does_not_end_a_contender_and_a_failed_run_is_a_miss(fragile, tmp_path):
    fragile("raise 0.03162")  # the second trial of three
    plan = small_plan(tmp_path / "race", "sgd(lr=0.02)", "fragile.Fragile(lr=log(0.01, 0.1))", tune=2)
    result = run(plan, None, Inline())
    tried = result["contenders"][1]["tuning"]["trials"]
    assert result["contenders"][1]["status"] == "raced"
    assert any(f["cause"] == "a cable came loose" for f in result["failures"])
    assert [t["score"] is None for t in tried if t["settings"]["lr"] == 0.03162] == [True]

    fragile(f"raise {derived_seed(plan.seeds('racing')[2], 'private')}")
    plan = small_plan(tmp_path / "second", "sgd(lr=0.02)", "fragile.Fragile(lr=0.02, momentum=0.9)", looks=(8,))
    result = run(plan, None, Inline())
    rival = result["contenders"][1]
    assert rival["targets"]["middle"]["steps"][2] is None
    assert rival["targets"]["middle"]["hits"] == 7
    assert rival["curves"][2]["values"] == [None]
    assert (
        "1 of the racing runs of fragile.Fragile(lr=0.02, momentum=0.9) failed, and count as not reaching anything"
        in result["notes"]
    )


def test_an_interrupted_race_tries_failed_cells_once_more(fragile, tmp_path):
    fragile("raise")

    class Impatient(Notes):
        def failed(self, cell, cause):
            raise KeyboardInterrupt

    def plan():
        return small_plan(tmp_path / "race", "sgd(lr=0.02)", "fragile.Fragile(lr=0.05)")

    with pytest.raises(KeyboardInterrupt):
        run(plan(), Impatient(), Inline())
    fragile("fine")
    result = run(plan(), None, Inline())
    assert result["failures"] == []
    assert result["contenders"][1]["status"] == "raced"


def test_an_edited_optimizer_is_another_race(fragile, tmp_path):
    fragile("fine")
    before = small_plan(tmp_path, "sgd", "fragile.Fragile").identity()["sources"]
    for text, same in (("# a comment\n", True), ("EDITED = True\n", False)):
        with (tmp_path / "fragile.py").open("a") as file:
            file.write(text)
        after = small_plan(tmp_path, "sgd", "fragile.Fragile").identity()["sources"]
        assert (after == before) == same
    assert [name for name in after if after[name] != before[name]] == ["fragile.Fragile"]


QUIET = {"blocks": [[1.0, 1.1, 1.2], [2.4, 2.0, 2.2]], "calibration": [1.0, 1.1, 1.0], "share": [1.0, 1.0, 1.1]}
NOISY = {**QUIET, "share": [1.5, 1.4, 1.6]}


def test_time_is_steps_times_cost_where_the_machine_was_quiet(tmp_path):
    pool = Inline(blocks=QUIET, memory={"peak_memory_mib": 3.0})
    result = run(small_plan(tmp_path / "race", *CLEAR, looks=(8,), steps=60, measure_cost=True), None, pool)
    assert result["timing"] == {"withheld": False, "why": None, "blocks": 3}
    baseline, rival = result["contenders"]
    assert baseline["cost"] == {"ratio": 1.0, "low": 1.0, "high": 1.0, "milliseconds": 1.0}
    assert (rival["cost"]["ratio"], rival["cost"]["milliseconds"]) == (2.0, 2.0)
    assert rival["time_ratio"] == rival["targets"]["middle"]["ratio"] * 2
    assert (baseline["peak_memory_mib"], rival["peak_memory_mib"]) == (3.0, 3.0)
    assert sum("blocks" in key for key in pool.ran) == 1
    assert pool.closed == 2  # memory is measured in a process that has done nothing else


def test_time_is_withheld_after_three_attempts_on_a_noisy_machine(tmp_path):
    pool = Inline(blocks=NOISY, memory={"peak_memory_mib": 3.0})
    result = run(small_plan(tmp_path / "race", *CLEAR, measure_cost=True), None, pool)
    assert result["timing"]["withheld"]
    assert "other processes took part of the core" in result["timing"]["why"]
    assert {c["cost"] for c in result["contenders"]} == {c["time_ratio"] for c in result["contenders"]} == {None}
    assert sum("blocks" in key for key in pool.ran) == 3


def test_cost_that_fails_is_withheld_and_listed(tmp_path):
    pool = Inline(blocks=None, memory=None)
    pool.answers = {}

    def broken(cells, on_result, on_progress, on_failure):
        for cell in cells:
            if cell.payload["do"] == "train":
                Inline.run(pool, [cell], on_result, on_progress, on_failure)
            else:
                on_failure(cell, "no timer")

    pool.run = broken
    result = run(small_plan(tmp_path / "race", *CLEAR, measure_cost=True), None, pool)
    assert result["timing"] == {"withheld": True, "why": "it was not measured", "blocks": 0}
    assert {failure["cause"] for failure in result["failures"]} == {"no timer"}
    assert result["contenders"][1]["peak_memory_mib"] is None


def test_two_contenders_that_are_tuned_alike_share_their_runs(race, tmp_path):
    result = race("sgd(lr=0.1)", "sgd", tune=0)
    assert {c["tuned_recipe"] for c in result["contenders"]} == {"sgd(lr=0.1)"}
    keys = [record.key for record in read(tmp_path / "race").all("cell")]
    assert len(keys) == len(set(keys)) == 1 + 10 + 6 + 6
    rival = result["contenders"][1]
    assert (rival["targets"]["middle"]["ratio"], rival["targets"]["middle"]["p"]) == (1.0, 1.0)
    assert rival["verdict"] == "no difference found"
    assert "nobody was tuned (--tune 0): the race compares defaults, not methods" in result["notes"]
