"""From the result of a race to effects and words: what is compared, and what is said where runs arrive nowhere."""

import numpy as np
import pytest

from sooner.ablation import Study, design, find, read
from sooner.report.ablation import answer


def result(study, steps, ends=None, *, higher_is_better=False, out=()):
    """The result of a race in which every arm needs so many steps; None is a run that misses the target."""
    contenders = []
    for index, recipe in enumerate(study.recipes):
        name = str(recipe)
        values = steps(name)
        final = [1.0 + index] * len(values) if ends is None else ends(name)
        contenders.append(
            {
                "recipe": name,
                "baseline": index == 0,
                "status": "out" if name in out else "raced",
                "sentence": "out: it diverged at every setting" if name in out else "",
                "seeds": 0 if name in out else len(values),
                "targets": {} if name in out else {"middle": {"steps": values}, "loose": {"steps": [1.0, *values[1:]]}},
                "curves": [{"values": [5.0, value]} for value in final],
            }
        )
    task = {"name": "planted", "metric": "loss", "higher_is_better": higher_is_better, "parameters": 25, "steps": 40}
    return {"task": task, "primary_target": "middle", "contenders": contenders}


@pytest.fixture
def study():
    return Study(read("muon + ema + clip_norm"), design(3))


def luck(name):
    """Noise of a run that depends on nothing but the arm and the seed."""
    return np.random.default_rng(sum(map(ord, name))).normal(size=8)


def by_muon(name):
    return [float(s) for s in (60 if "muon" in name else 100) * np.exp(0.004 * luck(name))]


def test_steps_to_the_target_tell_what_carries_the_gain(study):
    found = find(study, result(study, by_muon))
    assert (found.measure, found.target, found.why) == ("steps", "middle", "")
    without = found.effects.left_out[0]
    assert np.exp(without.value) == pytest.approx(100 / 60, rel=0.02)
    assert study.stack.factors[found.effects.kept[0]].name == "muon"
    told = answer(study, [(1.0, result(study, by_muon), found)], None, 0.05)
    assert "it is carried by muon (without it 1.67x the steps)" in told.headline
    assert "throw away" in told.headline
    assert told.headline.startswith("the stack needs 0.60x [")
    rows = {row[0]: row[-1] for row in told.grids[0].rows}
    assert rows == {"muon": "carries", "ema": "may go", "clip_norm": "may go"}
    assert told.json()["races"][0]["verdicts"] == rows


def test_a_stack_without_a_gain_is_called_that(study):
    def equal(name):
        return [float(s) for s in 100 * np.exp(0.05 * luck(name))]

    raced = result(study, equal)
    told = answer(study, [(1.0, raced, find(study, raced))], None, 0.05)
    assert told.headline.startswith("the stack has no gain that is sure: it needs ")


def test_where_a_run_misses_the_target_an_easier_one_counts(study):
    def misses(name):
        return [None, *by_muon(name)[1:]] if name == "ema + adamw" or name == "adamw + ema" else by_muon(name)

    found = find(study, result(study, misses))
    assert (found.measure, found.target) == ("steps", "loose")
    assert "adamw + ema" in found.why


def test_where_some_never_arrive_final_values_count(study):
    def none(name):
        return [None] * 8 if "ema" in name else by_muon(name)

    def ends(name):
        return [float(v) for v in (0.5 if "muon" in name else 1.0) * np.exp(0.004 * luck(name))]

    raced = result(study, none, ends)
    found = find(study, raced)
    assert found.measure == "final value"
    assert np.exp(found.effects.left_out[0].value) == pytest.approx(2, rel=0.02)
    told = answer(study, [(1.0, raced, found)], None, 0.05)
    assert any("final values are compared" in warning for warning in told.warnings)
    raced["task"]["higher_is_better"] = True
    assert find(study, raced).effects.left_out[0].value == pytest.approx(-np.log(2), abs=0.02), "less is worse there"


def test_diverged_runs_say_nothing_and_are_named(study):
    def none(name):
        return [None] * 8

    def ends(name):
        return [None] * 8 if "clip" not in name else [1.0] * 8

    raced = result(study, none, ends)
    found = find(study, raced)
    assert found.effects is None
    told = answer(study, [(1.0, raced, found)], None, 0.05)
    assert told.headline.startswith("nothing can be said of single parts")
    assert told.grids == []


def test_an_arm_that_did_not_race_is_named(study):
    found = find(study, result(study, by_muon, out=("adamw + ema",)))
    assert found.effects is None
    assert "adamw + ema did not race: out: it diverged" in found.why


def test_two_sizes_tell_whether_the_worth_of_a_part_changes(study):
    def less(name):
        return [float(s) for s in (90 if "muon" in name else 100) * np.exp(0.004 * luck(name))]

    small, large = result(study, by_muon), result(study, less)
    races = [(1.0, small, find(study, small)), (2.0, large, find(study, large))]
    told = answer(study, races, None, 0.05)
    rows = {row[0]: row[-1] for row in told.grids[-1].rows}
    assert rows["muon"] == "shrinks"
    assert rows["ema"] == "can't be told from these sizes"
    assert "at size 2" in told.headline
