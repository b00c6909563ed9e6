"""What a search needs of whatever is trained: a task with recipes, or a program with its options (`sooner.command`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sooner.error import SoonerError
from sooner.race.entrant import Entrant, Subject
from sooner.race.plan import Plan
from sooner.race.planned import Planned
from sooner.recipe import Recipe
from sooner.search.candidates import Choice, possible, with_choices
from sooner.task import Task


class Change(Protocol):
    """One thing that may be changed of what the search begins with."""

    @property
    def name(self) -> str:
        """As people write it."""

    @property
    def planned_end(self) -> bool:
        """Whether runs with it depend on how many steps they are asked for."""

    @property
    def schedule(self) -> bool:
        """Whether it only says how the learning rate goes, which a fair rival may have too."""

    def excludes(self, other: Any) -> bool:
        """Whether there is room for one of the two only."""


class Ground(Protocol):
    """What is trained, and how a way to train it is made, tried and raced."""

    @property
    def subject(self) -> Subject:
        """Its name, metric and steps."""

    @property
    def length(self) -> int:
        """Steps of a run."""

    def made(self, base: Any, changes: Sequence[Any]) -> Entrant:
        """Return what the search begins with, changed; a `SoonerError` where that makes nothing."""

    def possible(self, entrant: Any) -> str:
        """Return why something can't be trained, empty where it can."""

    def plan(self, entrants: Sequence[Any], **options: Any) -> Planned:
        """Return a race of these."""

    def pasted(self, entrant: Any) -> str:
        """Return what to paste to train so from now on."""


@dataclass(frozen=True)
class OnTask:
    """A task, on which recipes are searched.

    Args:
        task: what is trained.
        steps: of a run, None for the task's own.
        options: of every `Plan`, such as `device`.
    """

    task: Task
    steps: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def subject(self) -> Task:
        """The task."""
        return self.task

    @property
    def length(self) -> int:
        """Steps of a run."""
        return self.task.steps if self.steps is None else self.steps

    def made(self, base: Recipe, changes: Sequence[Choice]) -> Recipe:
        """Return a recipe with choices made, see `with_choices`."""
        return with_choices(base, changes)

    def possible(self, entrant: Recipe) -> str:
        """Return why a recipe can't train the task, empty where it can."""
        try:
            return possible(self.task, entrant, self.length)
        except Exception as error:  # a part may refuse in its own words
            return str(error)

    def plan(self, entrants: Sequence[Recipe], **options: Any) -> Plan:
        """Return a race of recipes.

        Raises:
            SoonerError: a recipe can't train this task, or a value that makes no race.
        """
        try:
            return Plan(self.task, list(entrants), arms=False, steps=self.steps, **{**self.options, **options})
        except SoonerError as error:
            raise SoonerError(f"search: {error}") from error

    def pasted(self, entrant: Recipe) -> str:
        """Return the line that builds a recipe."""
        return f'training = sooner.Recipe("{entrant}").build(model, steps={self.length})'
