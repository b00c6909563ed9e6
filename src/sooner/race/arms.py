"""The arms that a comparison over several workers can't do without, so that nobody wins against a straw man."""

from __future__ import annotations

from collections.abc import Sequence

from sooner.communication._cohort import Cohort
from sooner.communication._outer import Outer
from sooner.communication.dense import Dense
from sooner.recipe import Recipe, Slot, slot

STATION = "communication"


def with_arms(recipes: Sequence[Recipe]) -> list[Recipe]:
    """Return the contenders with what they must also be compared with, the baseline first.

    That is: dense averaging, as the baseline unless the first recipe is that already; half precision; local SGD
    with the steps per window of each outer contender; the outer optimizer on workers that are all the same, where one
    has momentum; and no communication. Recipes that communicate nothing special need no arms.
    """
    if not any(_sent(recipe) for recipe in recipes):
        return list(recipes)
    first, *others = recipes
    plain = _without(first)
    found = [first, *others] if _dense(first) else [plain, *(r for r in recipes if str(r) != str(plain))]
    arms = [_with(plain, slot("fp16"))]
    for recipe in recipes:
        for outer in _sent(recipe):
            if issubclass(outer.factory, Outer) and outer.name not in ("local_sgd", "snoo", "silent"):
                every = outer.settings.get("every", outer.space.get("every", _default(outer)))
                cohort = [s for s in _sent(recipe) if issubclass(s.factory, Cohort)]
                arms.append(_with(_without(recipe), slot("local_sgd", every=every), *cohort))
                if "momentum" in getattr(outer.factory, "__dataclass_fields__", ()):
                    arms.append(_with(_without(recipe), slot("snoo", every=every)))
    arms.append(_with(plain, slot("silent")))
    known = {str(recipe) for recipe in found}
    for arm in arms:
        if str(arm) not in known:
            known.add(str(arm))
            found.append(arm)
    return found


def _sent(recipe: Recipe) -> list[Slot]:
    return [s for s in recipe.slots if s.station == STATION]


def _dense(recipe: Recipe) -> bool:
    return all(s.factory is Dense for s in _sent(recipe))


def _without(recipe: Recipe) -> Recipe:
    return Recipe(*(s for s in recipe.slots if s.station != STATION))


def _with(recipe: Recipe, *more: Slot) -> Recipe:
    return Recipe(*recipe.slots, *more)


def _default(outer: Slot) -> int:
    """Return the steps per window that the part takes by itself."""
    return int(outer.factory.every)
