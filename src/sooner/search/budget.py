"""What a search can do in the time it is given, from how long one run takes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sooner.error import SoonerError
from sooner.race import limits
from sooner.race.limits import DEFAULT_SEEDS
from sooner.race.targets import LADDER

_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


LEAST_TUNING = 5
"""Tuning trials of both sides of the confirmation, as of any race; more where the search had more."""


@dataclass(frozen=True)
class Effort:
    """How much is spent on every stage.

    Args:
        tune: tuning trials of each recipe besides its default.
        screen: seeds on which single changes are compared.
        factors: choices that are combined.
        combine: seeds of every combination.
        finalists: combinations that go on.
        choose: seeds on which these are compared.
        confirm: seeds of the confirmation.
    """

    tune: int
    screen: int
    factors: int
    combine: int
    finalists: int
    choose: int
    confirm: int = DEFAULT_SEEDS

    def runs(self, field: Field) -> int:
        """Return about how many runs of the whole budget that is, what it tries being given."""
        tuned = _tuned(self.tune)
        one, laddered = field.lengths
        free, fixed = (laddered, laddered) if field.base_fixed else (one, laddered)
        mixed = (free + fixed) / 2 if field.fixed else free  # half of all combinations have a part that plans
        changes = field.free * free + field.fixed * fixed
        factors = min(self.factors, field.free + field.fixed)
        return round(
            (1 + field.free + field.fixed) * tuned
            + limits.TARGET_SEEDS * free
            + self.screen * (free + changes)
            + (1 << factors) * (tuned + self.combine * mixed)
            + (1 + self.finalists) * (tuned + self.choose * mixed)
            + 2 * _tuned(max(self.tune, LEAST_TUNING))
            + limits.TARGET_SEEDS * free
            + self.confirm * (2 * free + mixed)
        )


def _tuned(trials: int) -> int:
    """Return the runs of so many tuning trials: the default, and half as many in a wider range."""
    return 1 + trials + -(-trials // 2)


@dataclass(frozen=True)
class Field:
    """What a search tries, as far as its price goes.

    Args:
        free: single changes that do not plan for a fixed end.
        fixed: those that do, whose every length is a run of its own.
        base_fixed: whether what the search begins with does.
    """

    free: int
    fixed: int = 0
    base_fixed: bool = False

    @property
    def lengths(self) -> tuple[float, float]:
        """What racing on one seed costs what plans for no fixed end, and what does, in whole budgets."""
        return (LADDER[-1], sum(LADDER)) if self.fixed or self.base_fixed else (1.0, 1.0)


EFFORTS = (
    Effort(8, 6, 4, 6, 4, 16, 16),
    Effort(5, 4, 4, 4, 4, 12, 12),
    Effort(5, 3, 4, 2, 3, 8),
    Effort(3, 3, 3, 3, 3, 8),
    Effort(2, 2, 3, 2, 2, 6),
    Effort(2, 2, 2, 2, 2, 4, 6),
)
"""From much to little; the first that fits the budget is taken."""


def seconds_of(text: str) -> float:
    """Return the seconds of a budget such as ``2h``, ``90min`` or ``1h30m``.

    Raises:
        SoonerError: it is none.
    """
    pieces = re.findall(r"([0-9]*\.?[0-9]+)\s*([a-z]+)", text.strip().lower())
    if not pieces or "".join(f"{n}{u}" for n, u in pieces) != re.sub(r"\s", "", text.strip().lower()):
        raise SoonerError(f"--budget {text!r} is no length of time; write it like 2h, 90min or 1h30m")
    total = 0.0
    for number, unit in pieces:
        if unit not in _UNITS:
            raise SoonerError(f"--budget {text!r}: {unit!r} is no unit of time; there are {', '.join(_UNITS)}")
        total += float(number) * _UNITS[unit]
    if total <= 0:
        raise SoonerError(f"--budget {text!r} leaves no time for anything")
    return total


def effort(budget: float, run_seconds: float, jobs: int, field: Field) -> Effort:
    """Return the most that fits a budget.

    Args:
        budget: in seconds of wall time.
        run_seconds: what one run of the whole budget of steps takes.
        jobs: runs at once.
        field: what is tried.

    Raises:
        SoonerError: not even the least fits; names the budget that would.
    """
    for one in EFFORTS:
        if fits(one, budget, run_seconds, jobs, field):
            return one
    need = EFFORTS[-1].runs(field) * run_seconds / jobs
    raise SoonerError(
        f"a run takes {run_seconds:.3g} s here, so the least search takes about {need / 60:.0f} min; give a larger "
        "--budget, fewer --steps, or more --jobs"
    )


def fits(effort: Effort, budget: float, run_seconds: float, jobs: int, field: Field) -> bool:
    """Return whether so much can be done in a budget; the arguments are those of `effort`."""
    return effort.runs(field) * run_seconds / jobs <= budget
