"""What looking for truths costs, before it is paid: processor seconds, each race counted once."""

from __future__ import annotations

import math
from collections.abc import Iterable

from sooner.claims._claim import Race
from sooner.claims._code import task_of
from sooner.lab._truth import Truth
from sooner.race.limits import TARGET_SEEDS
from sooner.race.targets import ladder
from sooner.recipe import Recipe
from sooner.recipe.text import split

STEP_MILLISECONDS = {
    "charlm": 7.5,
    "digits": 4.0,
    "digits_federated": 3.5,
    "finetune": 23.0,
    "grammar": 20.0,
    "modular": 6.0,
    "quadratic": 0.8,
    "separable": 0.8,
    "shapes": 12.0,
    "zipf": 12.0,
}
"""Of one worker on one core, evaluations included; what is not listed counts as `USUAL`."""
USUAL = 10.0


def minutes(truths: Iterable[Truth]) -> float:
    """Return processor minutes of truths that share their races, widened tuning left out."""
    races: list[Race] = []
    seconds = 0.0
    for truth in truths:
        for setting in truth.on.values():
            seconds += setting.seconds
            races += [one for one in setting.experiments.values() if isinstance(one, Race) and one not in races]
    return (seconds + sum(map(race_seconds, races))) / 60


def race_seconds(race: Race) -> float:
    """Return processor seconds of a race."""
    recipes = [Recipe(text) for text in split(race.recipes)]
    budget = race.steps or task_of(race).steps
    horizons = [budget] if all(r.horizon_free for r in recipes) else ladder(budget)
    steps = 0
    for recipe in recipes:
        runs = race.seeds + (TARGET_SEEDS + race.seeds) * (recipe is recipes[0])
        steps += (race.tune + 1 if recipe.space else 1) * budget
        steps += runs * (max(horizons) if recipe.horizon_free else sum(horizons))
    return steps * race.workers * STEP_MILLISECONDS.get(race.task, USUAL) / 1000


def said(amount: float) -> str:
    """Return minutes as a person says them."""
    return "less than a minute" if amount < 1 else f"{math.ceil(amount)} min"
