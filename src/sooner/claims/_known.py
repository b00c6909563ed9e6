"""Positive controls: which experiments they speak of, and what the lab has shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from sooner.claims._claim import Claim, Known, Measured, Outcome, Race


def known(claim: Claim) -> list[Outcome]:
    """Return what the lab's published evidence says of the known truths that a claim rests on."""
    return [_known(claim, one) for one in claim.known]


def covering(claim: Claim, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes, of which positive controls also name the races of the same set-up, and what they cover."""
    declared = {criterion.says: tuple(criterion.covers) for criterion in claim.criteria}
    return [
        replace(o, experiments=_covered(claim, {*o.experiments, *declared[o.says]})) if o.positive else o
        for o in outcomes
    ]


def _known(claim: Claim, one: Known) -> Outcome:
    from sooner.lab import shown

    covers = {n for n, e in claim.experiments.items() if isinstance(e, Race) and e.task == one.workload}
    experiments = tuple(sorted(covers | set(one.covers)))
    says = f"the lab shows on {one.workload}: {one.truth}"
    found = shown(one.truth, one.workload)
    if found is None:
        nothing = Measured(math.nan, undecided="the lab has no evidence of it")
        return Outcome(says, nothing, None, nothing.undecided, False, "", positive=True, experiments=experiments)
    return replace(found, says=f"{says} ({found.says})", control=False, positive=True, experiments=experiments)


def _covered(claim: Claim, names: set[str]) -> tuple[str, ...]:
    races = {n: e.set_up() for n, e in claim.experiments.items() if isinstance(e, Race)}
    alike = {n for n, set_up in races.items() if any(set_up == races.get(other) for other in names)}
    return tuple(sorted(names | alike))
