"""The rule that makes a verdict of outcomes: nothing counts as missed where no positive control was met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from sooner.claims._claim import Outcome

Verdict: TypeAlias = Literal["reproduced", "reproduced in part", "not reproduced here", "not testable at this size"]
VERDICTS: tuple[Verdict, ...] = (
    "reproduced",
    "reproduced in part",
    "not reproduced here",
    "not testable at this size",
)


def conclude(outcomes: Sequence[Outcome]) -> Verdict:
    """Return the verdict.

    Controls can take "reproduced" away, but not give it. "Not reproduced here" needs a criterion that was missed where
    a positive control of the same experiment was met.
    """
    decide = [o for o in outcomes if not o.control and not o.positive]
    if any(o.met for o in decide):
        return "reproduced" if all(o.met for o in outcomes if o.control or not o.positive) else "reproduced in part"
    missed = any(o.met is False and shown(o, outcomes) for o in decide)
    return "not reproduced here" if missed else "not testable at this size"


def shown(outcome: Outcome, outcomes: Sequence[Outcome]) -> bool:
    """Say whether a positive control that speaks of every experiment behind an outcome was met."""
    met = {name for o in outcomes if o.positive and o.met for name in o.experiments}
    return bool(outcome.experiments) and met.issuperset(outcome.experiments)


def settled(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes, in which what was missed without a positive control can't be said."""
    return [
        replace(o, met=None, why=_unshown(o, outcomes), takes=_takes(o, outcomes))
        if o.met is False and not o.control and not o.positive and not shown(o, outcomes)
        else o
        for o in outcomes
    ]


def _unshown(outcome: Outcome, outcomes: Sequence[Outcome]) -> str:
    failed = _failed(outcome, outcomes)
    if not failed:
        return "no positive control says that an effect would show here"
    return f"the positive control was not met either ({'; '.join(o.says for o in failed)})"


def _takes(outcome: Outcome, outcomes: Sequence[Outcome]) -> str:
    failed = _failed(outcome, outcomes)
    if not failed:
        return "a positive control in the same set-up"
    own = [o.takes for o in failed if o.takes]
    return own[0] if own else "more steps, parameters or data, until the positive control is met"


def _failed(outcome: Outcome, outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [o for o in outcomes if o.positive and not o.met and set(o.experiments) & set(outcome.experiments)]
