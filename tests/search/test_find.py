"""A search from end to end on a plane: what is better is found, told and confirmed, and nothing runs twice."""

import json
import sys

import pytest
from small_races import LINE, Inline, written

from sooner.cli import main
from sooner.error import SoonerError
from sooner.race import limits
from sooner.race.referee import run as race
from sooner.recipe import Recipe
from sooner.report import search as reporting
from sooner.search import OnTask, Outcome, Search, choices, measure
from sooner.search import search as searching
from sooner.search.budget import Effort
from sooner.workloads import find

SMALL = Effort(1, 2, 2, 2, 1, 2, 3)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Few seeds, and one effort whatever the budget."""
    for name in ("LEAST_SEEDS", "TARGET_SEEDS"):
        monkeypatch.setattr(limits, name, 3)
    monkeypatch.setattr(searching, "effort", lambda *_: SMALL)


def a_search(folder, base="sgd(lr=0.001)", among="adamw, ema, clip_norm, clip_value", **more):
    task = find(str(written(folder, LINE)))
    return Search(OnTask(task), Recipe(base), choices(among), 1e6, folder / "here", told=lambda _: None, **more)


def test_what_is_better_is_found_and_confirmed_on_seeds_of_its_own(tmp_path):
    search, pool = a_search(tmp_path), Inline()
    found = search.run(pool)
    assert "adamw" in str(found.recipe)
    assert "adamw" in found.factors
    assert [len(stage) for stage in found.stages] == [5, 2 ** len(found.factors), 2]
    assert all(len(one.steps) == 2 for stage in found.stages for one in stage)
    plan = search.confirming(found)
    result = race(plan, pool=pool)
    assert next(r for r in result["contenders"] if not r["baseline"])["targets"]["middle"]["ratio"] < 1
    series = {int(key.split("seed ")[1].split()[0]) // 100_000 for key in pool.ran if "seed " in key}
    assert series == {0, 1, 2, 3}, "every stage and the confirmation have seeds of their own"
    again = Inline()
    assert search.run(again).recipe.slots == found.recipe.slots
    assert again.ran == []


def test_a_search_goes_on_where_it_was_stopped(tmp_path):
    whole = a_search(tmp_path / "a" if (tmp_path / "a").mkdir() is None else tmp_path).run(Inline())
    (tmp_path / "b").mkdir()
    search = a_search(tmp_path / "b")

    class Stopping(Inline):
        def run(self, cells, *more):
            if len(self.ran) + len(cells) > 20:
                raise KeyboardInterrupt
            return super().run(cells, *more)

    with pytest.raises(KeyboardInterrupt):
        search.run(Stopping())
    found = search.run(Inline())
    values = [[one.steps for one in stage] for stage in found.stages]
    assert values == [[one.steps for one in stage] for stage in whole.stages]
    assert str(found.recipe) == str(whole.recipe)


def test_where_nothing_is_better_the_recipe_stays(tmp_path):
    found = a_search(tmp_path, "sgd(lr=0.1)", "sgd").run(Inline())
    assert found.factors in ([], ["sgd"])
    assert str(found.recipe) in ("sgd(lr=0.1)", "sgd")


def test_what_can_not_be_made_is_left_out_with_its_reason(tmp_path):
    found = a_search(tmp_path, among="grad_norm_smooth, ema").run(Inline())
    assert set(found.refused) <= {"grad_norm_smooth"}


def test_the_command_tells_recipe_evidence_and_code(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, LINE)
    pool = Inline()
    monkeypatch.setattr(Search, "run", lambda self, _, run=Search.run: run(self, pool))
    monkeypatch.setattr("sooner.cli.finding.run", lambda plan, watchers, _: race(plan, watchers, pool))
    words = ["find", "my_task.py", "--base", "sgd(lr=0.001)", "--among", "adamw, ema", "--budget", "1h", "--jobs", "1"]
    monkeypatch.setattr(sys, "argv", ["sooner", *words, "--out", "here"])
    typed()
    told = capsys.readouterr()
    assert "adamw looked best, and fresh seeds can't tell it" in told.out, "three seeds prove nothing"
    assert "training =" not in told.out
    assert "<table" in (tmp_path / "here" / "report.html").read_text(encoding="utf-8")
    ran = len(pool.ran)
    monkeypatch.setattr(sys, "argv", ["sooner", *words, "--out", "here", "--json"])
    typed()
    data = json.loads(capsys.readouterr().out)
    assert (data["recipe"], data["proven"]) == ("adamw", False)
    assert 'Recipe("sgd(lr=0.001)")' in data["code"]
    assert len(pool.ran) == ran, "all of it was there"


def typed():
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code


def test_a_run_that_misses_counts_as_twice_the_longest(tmp_path):
    ground = OnTask(find(str(written(tmp_path, LINE))))
    plan = ground.plan([Recipe("sgd(lr=0.01)"), Recipe("sgd(lr=1e6)")], out=tmp_path / "one", tune=0)
    stage = measure.measure(plan, 2, pool=Inline())
    good, bad = stage.measured
    assert good.hits == 2
    assert good.typical < 40
    assert (bad.steps, bad.hits) == ([None, None], 0)
    assert bad.typical == pytest.approx(80)


def test_what_sets_no_target_is_refused(tmp_path):
    ground = OnTask(find(str(written(tmp_path, LINE))))
    plan = ground.plan([Recipe("sgd(lr=1e-30)")], out=tmp_path / "one", tune=0)
    with pytest.raises(SoonerError, match="no target to reach sooner; give more --steps"):
        measure.measure(plan, 2, pool=Inline())


def test_the_rival_is_named_or_has_the_schedule_that_helps_alone(tmp_path):
    named = a_search(tmp_path, among="adamw, clip_norm", against=Recipe("sgd(lr=0.05)"))
    found = named.run(Inline())
    assert str(named.confirming(found).baseline) == "sgd(lr=0.05)"

    def stage(*logs):
        recipes = ["sgd", "linear + sgd", "adamw"]
        return [measure.Measured(Recipe(r), {}, s, 40, s) for r, s in zip(recipes, logs, strict=True)]

    search = a_search(tmp_path, "sgd", "linear, adamw")
    helps = stage([20.0, 21.0, 20.5], [10.0, 10.6, 10.2], [5.0, 5.1, 5.2])
    assert str(search._rival(search.among, helps)) == "sgd + linear"
    useless = stage([20.0, 21.0, 20.5], [21.0, 20.0, 20.4], [5.0, 5.1, 5.2])
    assert str(search._rival(search.among, useless)) == "sgd"


def test_what_a_small_budget_has_no_room_for_is_left_out_from_the_end_and_told(tmp_path):
    search = a_search(tmp_path, among="adamw, ema, clip_norm, clip_value")
    search.budget = searching.EFFORTS[-1].runs(searching.Field(2)) + 1.0
    refused = {}
    kept, _ = search._effort(1.0, list(search.among), refused)
    assert [change.name for change in kept] == ["adamw", "ema"]
    assert refused == dict.fromkeys(["clip_value", "clip_norm"], searching.NO_ROOM)


def test_what_is_proven_is_told_with_the_line_to_paste(tmp_path):
    search = a_search(tmp_path, among="adamw")
    found = Outcome(Recipe("adamw"), search.base, [], ["adamw"], {}, SMALL, 1.0, 0.5)

    def told(verdict, sentence):
        row = {"recipe": "adamw", "tuned_recipe": "adamw(lr=0.1)", "baseline": False, "targets": {}, "time_ratio": None}
        row |= {"verdict": verdict, "sentence": sentence, "final": {"sentence": None}, "tuning": {"best": {"lr": 0.1}}}
        return reporting.answer(search, found, {"contenders": [{"baseline": True}, row]})

    faster = told("faster", "reaches the middle target in 0.50x of sgd's steps [0.40, 0.60]")
    assert faster.headline.startswith("use adamw(lr=0.1): it reaches the middle target in 0.50x")
    assert faster.notes[0] == 'to paste: training = sooner.Recipe("adamw(lr=0.1)").build(model, steps=40)'
    slower = told("slower", "reaches the middle target in 2.00x of sgd's steps [1.50, 2.60]")
    assert "stay with sgd(lr=0.001): what looked best, adamw, is slower" in slower.headline
    edge = told("edge", "open: the best lr is the highest tried for the baseline sgd")
    assert "can't tell it from sgd(lr=0.001): the best lr is" in edge.headline
