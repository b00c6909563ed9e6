"""What can race, and on what: the words that the referee, its evidence and its result need of either.

A `Recipe` races on a `Task`; a command races on whatever it trains itself (`sooner.command`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

from sooner.space import Knob


class Entrant(Protocol):
    """One way to train, with what is tuned of it; its text is its name."""

    @property
    def horizon_free(self) -> bool:
        """Whether it trains the same first n steps whatever the planned number of steps is."""

    @property
    def space(self) -> dict[str, Knob]:
        """Everything a race tunes."""

    @property
    def default(self) -> dict[str, Any]:
        """The settings of its first trial."""

    def with_settings(self, settings: Mapping[str, Any]) -> Self:
        """Return it with some of what is tuned fixed."""

    def left_out(self, baseline: Any) -> Sequence[Entrant]:
        """Return it with one difference from the baseline undone at a time; empty if there are fewer than two."""


class Subject(Protocol):
    """What is trained, as reports and targets speak of it."""

    @property
    def name(self) -> str:
        """A short name for tables."""

    @property
    def spec(self) -> str:
        """How another process finds it again; empty where it is not asked to."""

    @property
    def description(self) -> str:
        """One sentence."""

    @property
    def metric(self) -> str:
        """What is compared."""

    @property
    def higher_is_better(self) -> bool:
        """Whether larger values of the metric are better."""

    @property
    def evaluations(self) -> int:
        """Evaluations over a run."""

    @property
    def steps(self) -> int:
        """Its own budget in steps."""
