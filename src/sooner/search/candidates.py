"""What a search may add to a recipe: other rules, options of rules, and parts, each by its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sooner.error import SoonerError
from sooner.loop import provided_by, refuse_unmet
from sooner.recipe import Recipe, Slot, slot
from sooner.recipe.slots import names_rule, switches
from sooner.task import Task

AMONG = "adamw, muon, lion, adabelief, sgd, cautious, clip_norm, cosine, wsd, ema"
"""What is tried unless somebody says otherwise: rules that lead the league, and what is commonly put around them."""


@dataclass(frozen=True)
class Choice:
    """Something that may be added to a recipe.

    Args:
        name: as people write it.
        part: the part, None for an option of the rule.
    """

    name: str
    part: Slot | None = None

    @property
    def rule(self) -> bool:
        """Whether it takes the place of the recipe's rule."""
        return self.part is not None and self.part.moves

    @property
    def planned_end(self) -> bool:
        """Whether it decays towards a fixed end, so that a run of each length is a run of its own."""
        return self.part is not None and not self.part.horizon_free

    @property
    def schedule(self) -> bool:
        """Whether it only says how the learning rate goes."""
        return self.part is not None and self.part.station == "schedule"

    def excludes(self, other: Choice) -> bool:
        """Whether a recipe has room for one of the two only: two rules, or two parts that own the same thing."""
        if self.part is None or other.part is None:
            return False
        return (self.rule and other.rule) or bool(self.part.owns & other.part.owns)


def choices(text: str) -> list[Choice]:
    """Return what a text names, such as ``"muon, cautious, ema"``.

    Raises:
        SoonerError: an unknown name, or one twice.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if names.count(name) > 1:
            raise SoonerError(f"--among names {name} twice")
    rules = [one for one in names if names_rule(one)]
    options = {option for rule in rules for option in switches(slot(rule).factory)}
    found = [Choice(name) if name in options else Choice(name, _part(name)) for name in names]
    if not found:
        raise SoonerError(f"--among {text!r} names nothing; give parts such as {AMONG}")
    return found


def _part(name: str) -> Slot:
    try:
        return slot(name)
    except SoonerError as error:
        raise SoonerError(f"--among {name!r}: {error}") from None


def with_choices(base: Recipe, chosen: Sequence[Choice]) -> Recipe:
    """Return a recipe with the choices made: a rule in the place of its own, options on, parts added.

    A part that can't be in one recipe with a chosen one, such as its schedule, makes room; the recipe's rule does so
    for another rule only.

    Raises:
        SoonerError: the recipe has several rules, so none can be replaced, or the result makes no recipe.
    """
    slots = list(base.slots)
    movers = [i for i, one in enumerate(slots) if one.moves]
    if len(movers) != 1:
        raise SoonerError(f"{base} has {len(movers)} rules; a search needs one that it can replace, such as adamw")
    rule = slots.pop(movers[0])
    for choice in chosen:
        if choice.part is None:
            continue
        owned = choice.part.owns
        slots = [one for one in slots if one.name != choice.part.name and not (one.owns & owned)]
        if choice.rule:
            rule = choice.part
        else:
            slots.append(choice.part)
    on = {choice.name: True for choice in chosen if choice.part is None}
    slots.append(replace(rule, settings={**rule.settings, **on}) if on else rule)
    return Recipe(str(Recipe(*slots)))  # as workers read it


def possible(task: Task, recipe: Recipe, steps: int) -> str:
    """Return why a recipe can't train a task, empty where it can."""
    try:
        refuse_unmet(task, recipe)
        recipe.with_settings(recipe.default).build(task.model(0), steps, provided_by(task))
    except SoonerError as error:
        return str(error)
    return ""
