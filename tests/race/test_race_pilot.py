"""Before a race: a pilot on seeds of its own says how many seeds an effect needs, and leaves nothing to the race."""

import json
import math

import pytest
from small_races import LINE, Inline, Notes, small_plan, written

from sooner.cli.power import lines
from sooner.error import SoonerError
from sooner.race.journal import read
from sooner.race.pilot import from_races, outlook, pilot, pilot_of
from sooner.race.referee import run
from sooner.race.shelf import Shelf

PAIR = ("sgd(lr=0.02)", "sgd(lr=0.025)")


def told(plan, watch=None, effect=0.8):
    return outlook(plan, pilot(plan, watch, Inline()), 0.9, effect)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A race that is only thought of: its plan, what the pilot told, and the answer."""
    plan, watch = small_plan(tmp_path_factory.mktemp("asked") / "race", *PAIR, tune=1, steps=60), Notes()
    return plan, watch, told(plan, watch)


def test_a_pilot_uses_seeds_that_no_race_of_the_series_uses(asked):
    plan, watch, _ = asked
    own = pilot_of(plan)
    theirs = {seed for purpose in ("tuning", "target", "racing", "a/a") for seed in plan.seeds(purpose)}
    assert not theirs & {*own.seeds("tuning"), *own.seeds("target")}
    assert not theirs & {int(key.split(" | seed ")[1].split(" ")[0]) for key in watch.done}
    assert len(watch.phases["pilot"]) == 10
    assert all(key.endswith("| 120 steps") for key in watch.phases["pilot"])  # once and twice the budget in one


def test_a_race_takes_nothing_from_the_pilot(asked, tmp_path):
    plan, _, _ = asked
    assert own_folder(plan).is_dir()
    race = small_plan(tmp_path / "race", *PAIR, tune=1, steps=60)
    watch = Notes()
    run(race, watch, Inline(), Shelf(race, plan.folder().parent))
    assert sum(map(len, watch.phases.values())) == len(watch.done)
    with pytest.raises(SoonerError, match="holds another race"):
        run(small_plan(own_folder(plan), *PAIR, tune=1, steps=60), None, Inline())


def own_folder(plan):
    return pilot_of(plan).folder()


def test_the_answer_is_plain_numbers(asked):
    _, _, found = asked
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["power"], found["level"], found["looks"], found["recipes"]) == (0.9, 0.05, [6], list(PAIR))
    assert [b["steps"] for b in found["budgets"]] == [60, 120]
    for budget in found["budgets"]:
        seeds = [row["seeds"] or math.inf for row in budget["effects"]]
        assert [row["ratio"] for row in budget["effects"]] == [0.95, 0.9, 0.85, 0.8, 0.7, 0.5]
        assert seeds == sorted(seeds, reverse=True)
        assert all(row["cpu_minutes"] > 0 for row in budget["effects"] if row["seeds"])
        assert 0 < budget["visible"] < 1
        assert budget["visible_final_difference"] > 0
        assert budget["hits"] >= 9
    assert (
        "To see 0.80x of the steps with a chance of 90%, the cheapest is this race with --steps" in lines(found, 60)[-1]
    )


def test_half_the_budget_is_seen_where_it_has_room_for_all_evaluations(tmp_path):
    task = written(
        tmp_path, LINE.replace("range(60)", "range(100)").replace("randn(60", "randn(100") + "evaluations = 10\n"
    )
    assert [
        known.steps for known in pilot(small_plan(tmp_path / "race", *PAIR, tune=0, task=task), None, Inline())
    ] == [40, 20, 80]


def test_more_contenders_and_looks_need_more_seeds(asked, tmp_path):
    plan, _, found = asked
    known = pilot(plan, None, Inline())
    more = outlook(small_plan(tmp_path, *PAIR, "adamw", "sgd(lr=0.03)", looks=(8, 16), steps=60), known, 0.9, None)
    assert more["level"] == pytest.approx(0.05 / 3 / 2)
    always = outlook(small_plan(tmp_path, *PAIR, until=40, steps=60), known, 0.9, None)
    for one, other, every in zip(
        found["budgets"][0]["effects"], more["budgets"][0]["effects"], always["budgets"][0]["effects"], strict=True
    ):
        assert (one["seeds"] or 999) < (other["seeds"] or 1000)
        if every["seeds"]:
            assert one["seeds"] <= every["seeds"]
            assert every["mean_seeds"] <= every["seeds"]


def test_a_stopped_pilot_goes_on_and_a_finished_one_is_only_read(asked, tmp_path):
    _, watch, found = asked
    plan, first, second = small_plan(tmp_path / "race", *PAIR, tune=1, steps=60), Notes(stop_after=5), Notes()
    with pytest.raises(KeyboardInterrupt):
        pilot(plan, first, Inline())
    again = told(plan, second)
    assert first.done + second.done == watch.done
    assert without_cost(again) == without_cost(found)
    nobody = Inline()
    pilot(plan, None, nobody)
    assert nobody.ran == []
    assert len(read(own_folder(plan)).sessions) == 3


def without_cost(value):
    if isinstance(value, dict):
        return {k: without_cost(v) for k, v in value.items() if "cpu" not in k}
    return [without_cost(v) for v in value] if isinstance(value, list) else value


def test_finished_races_of_the_same_baseline_spare_the_pilot(tmp_path):
    done = small_plan(tmp_path / "done", *PAIR, looks=(8,), steps=60)
    result = run(done, None, Inline())
    plan = small_plan(tmp_path / "next", PAIR[0], "adamw", looks=(8,), steps=60)
    nobody = Inline()
    (known,) = pilot(plan, None, nobody)
    assert nobody.ran == []
    assert known.seen
    steps = [c["targets"]["middle"]["steps"] for c in result["contenders"]]
    logs = [math.log(a / b) for a, b in zip(steps[1], steps[0], strict=True)]
    mean = sum(logs) / 8
    assert known.spread.sd == pytest.approx(math.sqrt(sum((x - mean) ** 2 for x in logs) / 7))
    assert (known.spread.freedom, known.hits, known.runs) == (7, 8, 8)
    assert 0 < known.spread.shared < 1  # both are SGD on the same seeds
    assert "--series 1" in lines(outlook(plan, [known], 0.9, 0.8), 60)[-1]
    for other in ({"steps": 50}, {"task": "separable"}, {"series": 1}):
        unlike = small_plan(tmp_path / "other", PAIR[0], "adamw", **{"steps": 60, **other})
        assert (from_races(unlike) is None) == ("series" not in other)
    assert from_races(small_plan(tmp_path / "other", "adamw", PAIR[0], steps=60)) is None


def test_a_budgeted_race_is_planned_for_its_ladder(tmp_path):
    plan, watch = small_plan(tmp_path / "race", "sgd(lr=0.1) + cosine", "sgd(lr=0.1)", tune=0), Notes()
    found = told(plan, watch)
    assert len(watch.phases["pilot"]) == 10 * 6
    assert [b["steps"] for b in found["budgets"]] == [40]
    assert found["regime"] == "budgeted"
    assert found["budgets"][0]["effects"][-1]["seeds"] >= 6


def test_a_baseline_that_does_not_arrive_is_said_so(tmp_path):
    task = written(tmp_path, LINE.replace("return ((", "return 1 + 0 * (("))
    plan = small_plan(tmp_path / "race", *PAIR, task=task)
    found = told(plan)
    assert [b["steps"] for b in found["budgets"]] == [40]  # its batches do not last for twice as long
    assert found["budgets"][0]["effects"] == []
    assert lines(found, 40)[0] == "40 steps are too few: 0 of 10 runs of the baseline reach the middle target."
    assert "200 seeds are too few at every budget looked at" in lines(found, 40)[-1]


def test_a_baseline_that_can_not_run_ends_the_pilot_in_one_sentence(tmp_path):
    with pytest.raises(SoonerError, match=r"the baseline sgd\(lr=1000000.0\) can't race"):
        pilot(small_plan(tmp_path / "race", "sgd(lr=1e6)", "adamw"), None, Inline())
