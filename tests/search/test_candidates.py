"""What a search may add to a recipe, and what it makes of it."""

import pytest

from sooner.error import SoonerError
from sooner.recipe import Recipe
from sooner.search import AMONG, choices, with_choices
from sooner.search.candidates import possible
from sooner.workloads import find


def made(base, *names):
    known = {choice.name: choice for choice in choices(AMONG)}
    return str(with_choices(Recipe(base), [known[name] for name in names]))


@pytest.mark.parametrize(
    ("base", "names", "said"),
    [
        ("adamw", ["muon"], "muon"),
        ("adamw", ["cautious", "muon"], "muon(cautious=True)"),
        ("adamw", ["ema", "clip_norm"], "clip_norm + adamw + ema"),
        ("adamw(lr=0.001) + cosine", ["wsd"], "adamw(lr=0.001) + warmup_stable_decay"),
        ("adamw + ema(decay=0.5)", ["ema"], "adamw + ema"),
        ("adamw + clip_norm", [], "clip_norm + adamw"),
    ],
)
def test_choices_take_the_place_of_what_they_exclude(base, names, said):
    assert made(base, *names) == said


def test_a_rule_without_a_schedule_takes_its_place_and_makes_no_room_for_one():
    (rule,) = choices("schedule_free_adamw")
    assert str(with_choices(Recipe("clip_norm + adamw + cosine + ema"), [rule])) == "clip_norm + schedule_free_adamw"
    (cosine,) = choices("cosine")
    assert rule.excludes(cosine)
    with pytest.raises(SoonerError, match="both own the learning rate"):
        with_choices(Recipe("schedule_free_adamw"), [cosine])


def test_rules_and_schedules_exclude_each_other_and_nothing_else_does():
    known = {choice.name: choice for choice in choices(AMONG)}
    pairs = {(a, b) for a in known for b in known if a < b and known[a].excludes(known[b])}
    rules = sorted(name for name, choice in known.items() if choice.rule)
    assert pairs == {(a, b) for a in rules for b in rules if a < b} | {("cosine", "wsd")}


@pytest.mark.parametrize(
    ("text", "said"),
    [("emu", "did you mean 'ema'"), ("ema, ema", "names ema twice"), (" , ", "names nothing"), ("cautios", "cautios")],
)
def test_unknown_names_get_one_sentence(text, said):
    with pytest.raises(SoonerError, match=said):
        choices(text)


def test_a_recipe_of_several_rules_can_not_be_searched_around():
    with pytest.raises(SoonerError, match="has 2 rules"):
        made("muon(on='weight') + adamw(on='rest')", "ema")


def test_what_a_task_can_not_train_is_told():
    task = find("quadratic")
    assert possible(task, Recipe("adamw"), 40) == ""
    assert "finds no hidden weight matrix" in possible(task, Recipe("muon"), 40)
    assert "cooldown needs domains" in possible(task, Recipe("cooldown + adamw"), 40)
