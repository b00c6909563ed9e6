"""Who never ran beside the reference, and the command of the race in which they would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sooner.league.comparisons import Comparison


@dataclass(frozen=True)
class Apart:
    """Contenders that never ran beside the reference.

    Attributes:
        contenders: their names.
        race: the command of a race in which they would; empty where nobody knows it.
    """

    contenders: list[str]
    race: str


def reference_of(comparisons: Sequence[Comparison], names: Sequence[str]) -> str:
    """Return the contender that most comparisons hold; of several, the one that ran beside most others."""
    beside = {name: {other for c in comparisons if name in c.steps for other in c.steps} for name in names}
    return max(names, key=lambda name: (sum(name in c.steps for c in comparisons), len(beside[name]), name))


def conditions(comparisons: Sequence[Comparison], group: Sequence[str]) -> str:
    """Return the command, without recipes, of the race in which the first of the group ran most."""
    races = [c.race for c in comparisons if group[0] in c.steps and c.race]
    return max(races, key=races.count, default="")


def joined(race: str, reference: str, group: Sequence[str]) -> str:
    """Return the race with the reference and the group as its recipes; empty where nobody knows its command."""
    return f'{race} --recipes "{"; ".join([reference, *group])}"' if race else ""


def through_others(comparisons: Sequence[Comparison], reference: str, names: Sequence[str]) -> list[Apart]:
    """Return contenders that need a race with the reference, those together that can run in the same one."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(conditions(comparisons, [name]), []).append(name)
    return [Apart(group, joined(race, reference, group)) for race, group in found.items()]
