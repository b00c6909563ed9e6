"""Criteria that truths declare alike. All figures are of contender over reference, so that less is better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sooner.lab._truth import Criterion, Findings, Measured


def sooner_than(race: str, contender: str, reference: str, at_most: float, paper: str = "") -> Criterion:
    """Return the criterion that a contender reaches the middle target in at most this share of the steps."""
    return Criterion(
        f"{contender}: at most {at_most:g}x of the steps of {reference}",
        lambda f: f.steps_ratio(race, contender, against=reference),
        at_most=at_most,
        gain=True,
        paper=paper,
    )


def lower_than(race: str, contender: str, reference: str, at_most: float, paper: str = "") -> Criterion:
    """Return the criterion that a contender ends at most this much as high at equal budget."""
    return Criterion(
        f"{contender}: ends at most {at_most:g}x as high as {reference}",
        lambda f: f.final_ratio(race, contender, against=reference),
        at_most=at_most,
        gain=True,
        paper=paper,
    )


def not_sooner_than(race: str, contender: str, reference: str, at_least: float, paper: str = "") -> Criterion:
    """Return the criterion that a contender takes at least this share of the steps."""
    return Criterion(
        f"{contender}: at least {at_least:g}x of the steps of {reference}",
        lambda f: f.steps_ratio(race, contender, against=reference),
        at_least=at_least,
        paper=paper,
    )


def ends_like(race: str, contender: str, reference: str, at_most: float, paper: str = "") -> Criterion:
    """Return the criterion that a contender ends hardly higher, whether or not it ends lower."""
    return replace(lower_than(race, contender, reference, at_most, paper), gain=False)


def changed(
    new: str | int,
    old: str | int,
    at_most: float,
    key: str = "last",
    *,
    by: str = "change",
    name: str = "runs",
    paper: str = "",
) -> Criterion:
    """Return the criterion on a measurement of `_variants.arms`, paired by seed.

    Args:
        new, old: values of `by`, which tells the arms apart.
        at_most: limit of the ratio.
        key: "last" for the value at the end, "reached" for the steps to the target.
        by: argument in which the arms differ.
        name: of the experiment.
        paper: the source's figure.
    """
    words = {"last": "ends at most {:g}x as high as", "reached": "at most {:g}x of the steps of"}[key].format(at_most)
    return Criterion(
        f"{new}: {words} {old}",
        lambda f: f.paired_ratio(name, key, {by: new}, {by: old}),
        at_most=at_most,
        gain=True,
        paper=paper,
    )


def size_within(race: str, contender: str, reference: str, true: Mapping[str, Any] | float) -> Criterion:
    """Return the criterion that the interval of a ratio of steps holds the true one, or misses it by 3 % at most.

    `true` is the ratio, or ``{"ahead": n}`` for a head start of n steps.
    """
    words = f"{true:.3g}x" if isinstance(true, float) else f"{true['ahead']} steps fewer"
    return Criterion(
        f"{contender}: the interval holds the true size, {words}, to within 3 %",
        lambda f: outside(f, race, contender, reference, true),
        at_most=1.03,
    )


def outside(f: Findings, race: str, contender: str, reference: str, true: Mapping[str, Any] | float) -> Measured:
    """Return by which factor a true ratio of steps lies outside of its interval; 1 for inside."""
    found = f.steps_ratio(race, contender, against=reference)
    if found.undecided:
        return found
    if not isinstance(true, float):
        hits = [s for s in f.row(race, reference)["targets"]["middle"]["steps"] if s is not None]
        true = math.exp(sum(math.log(max(s - true["ahead"], 1.0) / s) for s in hits) / len(hits))
    assert found.low is not None
    assert found.high is not None
    return replace(found, value=max(found.low / true, true / found.high, 1.0), low=None, high=None, p=None, floor=None)
