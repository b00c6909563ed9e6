"""Positive controls: which experiments they speak of, and what the lab has shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module

from sooner import workloads
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
    lab = import_module("sooner.lab")  # which stands on claims itself

    experiments = tuple(sorted(spoken_of(claim, one)))
    says = f"the lab shows on {one.workload}: {one.truth}"
    found: Outcome | None = lab.shown(one.truth, one.workload)
    if found is None:
        nothing = Measured(math.nan, undecided="the lab has no evidence of it")
        return Outcome(says, nothing, None, nothing.undecided, False, "", positive=True, experiments=experiments)
    return replace(found, says=f"{says} ({found.says})", control=False, positive=True, experiments=experiments)


def spoken_of(claim: Claim, one: Known) -> set[str]:
    """Return the experiments that a known truth speaks of.

    These are the races on its workload, at the size of the lab and at least as long, and what it covers.

    How blunt a race is with its own seeds is judged from its own figures.
    """
    least = shortest(one)
    races = {n: e for n, e in claim.experiments.items() if isinstance(e, Race) and e.task == one.workload}
    return {n for n, e in races.items() if e.size == 1 and e.workers == 1 and _steps(e) >= least} | set(one.covers)


def shortest(one: Known) -> int:
    """Return the steps of the shortest race in which the lab looks for a truth on a workload, 0 where it races none."""
    lab = import_module("sooner.lab")

    setting = lab.load(one.truth).on.get(one.workload)
    races = [e for e in setting.experiments.values() if isinstance(e, Race)] if setting else []
    return min(map(_steps, races), default=0)


def _steps(race: Race) -> int:
    return workloads.find(race.task).steps if race.steps is None else race.steps


def _covered(claim: Claim, names: set[str]) -> tuple[str, ...]:
    races = {n: e.set_up() for n, e in claim.experiments.items() if isinstance(e, Race)}
    alike = {n for n, set_up in races.items() if any(set_up == races.get(other) for other in names)}
    return tuple(sorted(names | alike))
