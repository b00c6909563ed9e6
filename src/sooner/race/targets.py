"""Targets, and when a run reaches them: lower is better throughout, so a caller negates a metric such as accuracy.

A curve that dips below the target once by luck has not reached it. A crossing therefore counts only when the next
evaluation holds too, and the value that a run "reaches" by some step is defined by the same rule.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

from sooner.error import SoonerError

LADDER = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4)
"""The horizons of the budgeted regime, as shares of the budget."""

ANYTIME_SHARES = {"loose": 0.5, "middle": 0.75, "tight": 1.0}
BUDGETED_SHARES = {"loose": 0.5, "middle": 0.7, "tight": 1.0}

Targets = dict[str, float | None]


def ladder(budget: int) -> list[int]:
    """Return the horizons in steps of the budgeted regime, shortest first, without duplicates."""
    return sorted({_horizon(share, budget) for share in LADDER})


def confirmed_crossing(steps: Sequence[float], values: Sequence[float | None], target: float) -> float | None:
    """Return the step at which a run reaches the target, or None for a miss.

    The crossing is at the first evaluation at or below the target whose successor is also at or below it, moved back
    to the straight line from the evaluation before. A crossing at the last evaluation has no successor and does not
    count: a lucky last evaluation would otherwise be cheaper than a lucky earlier one. `reachable` sets targets by the
    same rule, so the baseline is not asked for what it could not confirm.

    Args:
        steps: step of each evaluation, ascending; may start with 0, the untrained model.
        values: metric at each evaluation, lower is better; None, NaN and infinities never count as reached.
        target: the value to reach.

    Returns:
        The step, a float because of the interpolation.
    """
    known = [_finite(value) for value in values]
    for j in range(len(steps) - 1):
        if known[j] <= target and known[j + 1] <= target:
            if j == 0 or not math.isfinite(known[j - 1]):
                return float(steps[j])
            share = (known[j - 1] - target) / (known[j - 1] - known[j])
            return float(steps[j - 1] + share * (steps[j] - steps[j - 1]))
    return None


def reachable(steps: Sequence[float], values: Sequence[float | None], until: float) -> float:
    """Return the lowest value that two successive evaluations at or before step `until` both hold, else infinity.

    As a target for the same run, this value has a confirmed crossing no later than `until`.
    """
    known = [_finite(value) for value, step in zip(values, steps, strict=True) if step <= until]
    return min((max(pair) for pair in itertools.pairwise(known)), default=math.inf)


def targets_anytime(curves: Sequence[tuple[Sequence[float], Sequence[float | None]]], budget: float) -> Targets:
    """Return the loose, middle and tight target of the anytime regime from runs of the tuned baseline.

    They are the values that 90 % of the runs reach by 50, 75 and 100 % of the budget. A share of the runs rather than
    their median: by the median, the baseline itself would miss in every second run. Three of them, since a method may
    be faster early and slower late.

    Args:
        curves: (steps, values) of each target-seed run, ten or more by the race rules, lower is better.
        budget: steps of a full run.

    Returns:
        {"loose", "middle", "tight"}; None where fewer than 90 % of the runs reach any finite value.
    """
    return {
        name: _reached_by_most([reachable(steps, values, share * budget) for steps, values in curves])
        for name, share in ANYTIME_SHARES.items()
    }


def targets_budgeted(finals_by_horizon: Mapping[int, Sequence[float | None]], budget: int) -> Targets:
    """Return the loose, middle and tight target of the budgeted regime from runs of the tuned baseline.

    They are the values that 90 % of the runs end at or below when trained to 50, 70 and 100 % of the budget. A longer
    horizon that ends higher (overfitting) does not loosen the target: the best so far is kept, as in the other regime.

    Args:
        finals_by_horizon: final metric of each target-seed run by horizon in steps; None or NaN for a diverged run.
        budget: steps of a full run.

    Raises:
        SoonerError: one of the three horizons is missing.
    """
    targets: Targets = {}
    so_far: float | None = None
    for name, share in BUDGETED_SHARES.items():
        horizon = _horizon(share, budget)
        if horizon not in finals_by_horizon:
            known = ", ".join(map(str, sorted(finals_by_horizon)))
            raise SoonerError(f"the {name} target needs runs at the horizon of {horizon} steps, got {known or 'none'}")
        reached = _reached_by_most([_finite(value) for value in finals_by_horizon[horizon]])
        if reached is not None:
            so_far = reached if so_far is None else min(so_far, reached)
        targets[name] = so_far
    return targets


def horizon_to_target(
    horizons: Sequence[float], finals: Sequence[float | None], target: float
) -> tuple[float | None, bool]:
    """Return the training length whose final value meets the target, and whether that is only an upper bound.

    It is found on the ladder of separate runs: the first horizon that meets the target and whose next longer one meets
    it too, moved back to the straight line in log-horizon from the horizon before. The longest horizon has no
    successor and stands for itself: unlike the last point of a curve, it is a whole run that ended, decay included.

    Args:
        horizons: lengths in steps, ascending.
        finals: final metric at each, lower is better; None, NaN or infinite for a diverged run.
        target: the value to meet.

    Returns:
        (horizon, False); (shortest horizon, True) where that already meets the target, so the true one may be shorter;
        (None, False) for a miss.
    """
    known = [_finite(value) for _, value in zip(horizons, finals, strict=True)]
    last = len(known) - 1
    for j, value in enumerate(known):
        if value <= target and known[min(j + 1, last)] <= target:
            if j == 0:
                return float(horizons[0]), True
            before = known[j - 1]
            if not math.isfinite(before) or before <= target:
                # nothing to draw a line from: a diverged run, or a lucky one that its successor did not confirm
                return float(horizons[j]), False
            share = (before - target) / (before - value)
            return float(horizons[j - 1] * (horizons[j] / horizons[j - 1]) ** share), False
    return None, False


def _horizon(share: float, budget: int) -> int:
    return max(1, round(share * budget))


def _finite(value: float | None) -> float:
    """Map everything that is no finite number to infinity, the worst value."""
    return value if value is not None and math.isfinite(value) else math.inf


def _reached_by_most(values: Sequence[float]) -> float | None:
    """Return the ceil(0.9 n)-th smallest value, None where that is infinite or there is none."""
    if not values:
        return None
    rank = -(-9 * len(values) // 10)
    reached = sorted(values)[rank - 1]
    return reached if math.isfinite(reached) else None
