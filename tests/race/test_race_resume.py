"""An interrupted race goes on where it stopped; a folder holds one race; a finished race is only read."""

import json

import pytest
from small_races import LINE, Inline, Notes, cells, numbers, small_plan, written

from sooner.cli.show import show_race
from sooner.error import SoonerError
from sooner.race import limits
from sooner.race import plan as plans
from sooner.race.cell import _found
from sooner.race.journal import Journal, read
from sooner.race.referee import run
from sooner.race.shelf import Shelf

RECIPES = ("sgd(lr=0.02)", "sgd(lr=log(0.001, 0.05))", "sgd(lr=0.05)")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, pool):
    """The plan, what it told and the result of the race that nobody interrupted."""
    plan, watch = small_plan(tmp_path_factory.mktemp("undisturbed") / "race", *RECIPES), Notes()
    return plan, watch, run(plan, watch, pool)


@pytest.mark.parametrize("after", [1, 5, 17, 30])
def test_a_stopped_race_goes_on_where_it_was_with_identical_numbers(undisturbed, tmp_path, pool, after):
    whole, told, result = undisturbed
    plan, first, second = small_plan(tmp_path / "race", *RECIPES), Notes(stop_after=after), Notes()
    with pytest.raises(KeyboardInterrupt):
        run(plan, first, pool if after == 5 else Inline())
    kept = (plan.folder() / "journal.jsonl").read_bytes()
    assert len(read(plan.folder()).all("cell")) == len(first.done) == after
    with pytest.raises(SoonerError, match=rf"not finished \(cells done: {after}\)"):
        show_race(plan.folder(), open_browser=False, as_json=False)

    resumed = run(small_plan(tmp_path / "race", *RECIPES), second, pool)
    assert not set(first.done) & set(second.done)
    assert sorted(first.done + second.done) == sorted(told.done)
    assert (plan.folder() / "journal.jsonl").read_bytes().startswith(kept)
    assert cells(read(plan.folder())) == cells(read(whole.folder()))
    assert json.dumps(numbers(resumed)) == json.dumps(numbers(result))


ALWAYS = {"until": 10, "steps": 60, "tune": 0}
TRIO = ("sgd(lr=0.01)", "sgd(lr=0.03)", "sgd(lr=0.01, weight_decay=0.0)")


@pytest.fixture(scope="module")
def judged_always(tmp_path_factory):
    """A race that is judged after every seed: one contender is decided on the way, one never."""
    plan, watch = small_plan(tmp_path_factory.mktemp("always") / "race", *TRIO, **ALWAYS), Notes()
    return plan, watch, run(plan, watch, Inline())


@pytest.mark.parametrize("after", [20, 41, 46, 49])
def test_a_race_judged_after_every_seed_goes_on_from_any_look(judged_always, tmp_path, after):
    """Stopped while the first seeds run, just after a contender was decided, and between and within later looks."""
    whole, told, result = judged_always
    assert [c["seeds"] for c in result["contenders"]] == [10, 8, 10]
    first, second = Notes(stop_after=after), Notes()
    with pytest.raises(KeyboardInterrupt):
        run(small_plan(tmp_path / "race", *TRIO, **ALWAYS), first, Inline())
    resumed = run(small_plan(tmp_path / "race", *TRIO, **ALWAYS), second, Inline())
    assert first.done + second.done == told.done
    assert cells(read(tmp_path / "race")) == cells(read(whole.folder()))
    assert json.dumps(numbers(resumed)) == json.dumps(numbers(result))


def test_a_race_judged_after_every_seed_takes_runs_from_the_shelf_and_comes_out_the_same(judged_always, tmp_path):
    whole, _, result = judged_always
    fixed = small_plan(whole.folder().parent / "fixed", *TRIO, looks=(9,), steps=60, tune=0)
    shelf = Shelf(fixed, whole.folder().parent)
    watch = Notes()
    run(fixed, watch, Inline(), shelf)
    assert watch.done == watch.phases["racing on 9 seeds"]
    assert len(watch.done) == 1  # the contender that was decided after 8 seeds, on the ninth
    again = small_plan(tmp_path / "again", *TRIO, **ALWAYS)
    nobody = Inline()
    assert numbers(run(again, None, nobody, Shelf(again, whole.folder().parent))) == numbers(result)
    assert nobody.ran == []


def test_a_race_by_older_rules_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "RULES", "1")
    run(small_plan(tmp_path / "race", "sgd(lr=0.02)"), None, Inline())
    monkeypatch.undo()
    with pytest.raises(SoonerError, match=r'holds another race, which differs in rules: "1" -> "2"'):
        run(small_plan(tmp_path / "race", "sgd(lr=0.02)"), None, Inline())


def test_a_finished_race_is_only_read(undisturbed):
    plan, _, result = undisturbed
    nobody = Inline()
    again = run(small_plan(plan.folder(), *RECIPES), Notes(), nobody)
    assert nobody.ran == []
    assert again == result


def test_the_result_stands_in_the_journal(undisturbed):
    plan, _, result = undisturbed
    assert read(plan.folder()).find("result", "result") == result
    sessions = read(plan.folder()).sessions
    assert {"command", "versions", "machine", "jobs", "started"} == set(sessions[0].data)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"steps": 50}, "steps: 40 -> 50"),
        ({"looks": (7,)}, r"looks\[0\]: 6 -> 7"),
        ({"looks": (6, 12)}, r"looks\[1\]: nothing -> 12"),
        ({"until": 8}, r"looks\[0\]: 6 -> nothing; until: nothing -> 8"),
        ({"tune": 2}, "tune: 1 -> 2"),
        ({"series": 3}, "series: 0 -> 3"),
        ({"regime": "budgeted"}, 'regime: "anytime" -> "budgeted"'),
        ({"measure_cost": True}, "cost measured: false -> true"),
        ({"task": "separable", "steps": 40}, 'task.name: "quadratic" -> "separable"'),
    ],
)
def test_another_race_is_refused_naming_what_differs(undisturbed, change, field):
    plan, _, result = undisturbed
    with pytest.raises(SoonerError, match=rf"holds another race, which differs in .*{field}.*choose another --out"):
        run(small_plan(plan.folder(), *RECIPES, **change), None, Inline())
    assert read(plan.folder()).find("result", "result") == result


def test_other_contenders_versions_rules_or_processors_are_refused(undisturbed, monkeypatch):
    plan, _, _ = undisturbed
    with pytest.raises(SoonerError, match=r'recipes\[2\]: "sgd\(lr=0.05\)" -> "adamw"'):
        run(small_plan(plan.folder(), *RECIPES[:2], "adamw"), None, Inline())
    same = small_plan(plan.folder(), *RECIPES)
    installed = plans.versions()
    for module, name, value, field in (
        (plans, "versions", lambda: {**installed, "torch": "1.0"}, "versions.torch: "),
        (plans, "processor", lambda: "abacus", "processor: .* -> .abacus."),
        (limits, "RULES", "3", 'rules: "2" -> "3"'),
    ):
        monkeypatch.setattr(module, name, value)
        with pytest.raises(SoonerError, match=rf"differs in .*{field}"):
            run(same, None, Inline())
        monkeypatch.undo()


def test_the_same_plan_finds_its_folder_and_another_gets_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = small_plan(None, "sgd").folder()
    assert folder.parent.name == "races"
    assert folder.name.startswith("quadratic-")
    assert small_plan(None, "sgd", jobs=1).folder() == folder
    assert small_plan(None, "sgd", command="sooner race").folder() == folder
    assert len({small_plan(None, "sgd", **o).folder() for o in ({}, {"steps": 50}, {"series": 1}, {"tune": 0})}) == 4


def test_an_edited_task_is_another_race(tmp_path):
    task = written(tmp_path, LINE)
    first = small_plan(tmp_path / "race", "sgd(lr=0.01)", task=task)
    run(first, None, Inline())
    written(tmp_path, LINE.replace("** 2", "** 4"))
    with pytest.raises(SoonerError, match=r"differs in task\.fingerprint"):
        run(small_plan(tmp_path / "race", "sgd(lr=0.01)", task=task), None, Inline())


def test_a_task_that_changes_during_the_race_stops_it_and_spoils_nothing(tmp_path):
    task = written(tmp_path, LINE)

    class Editor(Notes):
        def finished(self, cell, data):
            super().finished(cell, data)
            if len(self.done) == 4:
                written(tmp_path, LINE.replace("** 2", "** 4"))
                _found.cache_clear()  # a worker that starts now has not read the old file

    def plan():
        return small_plan(tmp_path / "race", "sgd(lr=0.01)", "sgd(lr=0.02)", task=task)

    with pytest.raises(SoonerError, match=r"my_task.py changed while the race was running; put the old file back"):
        run(plan(), Editor(), Inline())
    assert read(tmp_path / "race").all("failure") == []
    kept = [record.key for record in read(tmp_path / "race").all("cell")]
    written(tmp_path, LINE)
    watch = Notes()
    run(plan(), watch, Inline())
    assert len(kept) == 4
    assert not set(kept) & set(watch.done)


def test_a_second_race_on_the_folder_is_refused(tmp_path):
    plan = small_plan(tmp_path / "race", "sgd")
    with (
        Journal.open(plan.folder(), plan.identity(), {}),
        pytest.raises(SoonerError, match=r"another race \(process \d+\) is running"),
    ):
        run(plan, None, Inline())
