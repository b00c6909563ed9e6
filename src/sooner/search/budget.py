"""What a search can do in the time it is given, from how long one run takes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sooner.error import SoonerError
from sooner.race.limits import DEFAULT_SEEDS, TARGET_SEEDS
from sooner.race.targets import LADDER

_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


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

    def runs(self, choices: int, arms: int, fixed_end: bool) -> int:
        """Return about how many runs of the whole budget that is.

        Args:
            choices: single changes, besides the recipe itself.
            arms: combinations.
            fixed_end: whether what is confirmed may plan for a fixed end, whose every length is a run of its own.
        """
        tuned = 1 + self.tune + -(-self.tune // 2)
        race = TARGET_SEEDS + 3 * self.confirm
        longer = sum(LADDER) if fixed_end else 1.0
        return round(
            (1 + choices) * (tuned + self.screen)
            + arms * (tuned + self.combine)
            + (1 + self.finalists) * self.choose
            + 2 * tuned
            + race * longer
        )


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


def effort(budget: float, run_seconds: float, jobs: int, choices: int, fixed_end: bool) -> Effort:
    """Return the most that fits a budget.

    Args:
        budget: in seconds of wall time.
        run_seconds: what one run of the whole budget of steps takes.
        jobs: runs at once.
        choices: single changes.
        fixed_end: see `Effort.runs`.

    Raises:
        SoonerError: not even the least fits; names the budget that would.
    """
    for one in EFFORTS:
        if one.runs(choices, 2**one.factors, fixed_end) * run_seconds / jobs <= budget:
            return one
    least = EFFORTS[-1]
    need = least.runs(choices, 2**least.factors, fixed_end) * run_seconds / jobs
    raise SoonerError(
        f"a run takes {run_seconds:.3g} s here, so the least search takes about {need / 60:.0f} min; give a larger "
        "--budget, fewer parts with --among, fewer --steps, or more --jobs"
    )
