"""A race among workers says before it starts what speaks against a contender's communication parts."""

from sooner.race.plan import Plan
from sooner.recipe import Recipe
from sooner.workloads import find


def plan(*recipes, workers):
    return Plan(find("modular"), [Recipe(one) for one in recipes], looks=(8,), tune=0, steps=20, workers=workers)


def test_known_bad_pairs_are_said_with_their_recipe():
    (said,) = [one for one in plan("adamw", "adamw + top_k + ef", workers=2).warnings() if "top_k + ef + adamw:" in one]
    assert "times the steps" in said


def test_one_worker_has_no_such_doubts():
    assert not any("times the steps" in one for one in plan("adamw", "adamw + top_k + ef", workers=1).warnings())
