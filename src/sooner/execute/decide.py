"""The middle part of a reduction: from the sums of rows to the numbers that every row goes on with.

The same for all executors, on tensors with one element per row, so that only the long vectors are worth compiling.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from sooner.execute.cohort import Work
from sooner.transform import Quantity, Reduction

RowSums = tuple[Tensor, ...]
"""For one bucket and every vector that was added up, ``[count, rows]``."""

Numbers = tuple[Tensor, ...]
"""For one bucket and every number that `Reduction.finish` gets, something that expands to ``[count, rows]``."""


def sum_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype in which sums are kept: float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def decide(rules: Sequence[Reduction], work: Sequence[Work], sums: Sequence[Sequence[RowSums]]) -> list[list[Numbers]]:
    """Run the middle part of one rule for all cohorts, and keep its memory.

    Args:
        rules: the rule of each cohort.
        work: the cohorts.
        sums: what was added up for each cohort and bucket.

    Returns:
        For each cohort and bucket the numbers, in the dtype of the cohort's state.
    """
    if rules[0].over == "model":
        return _decide_for_model(rules[0], work, sums)
    found = []
    for rule, w, of_cohort in zip(rules, work, sums, strict=True):
        per_bucket = []
        for bucket, of_bucket in zip(w.cohort.buckets, of_cohort, strict=True):
            kept = {name: bucket.kept(name, w.cohort.state[name]) for name in rule.memory}
            exact = {name: view.to(sum_dtype(view.device)) for name, view in kept.items()}
            wanted = of_bucket if rule.over == "row" else tuple(one.sum(1) for one in of_bucket)
            numbers, after = rule.decide(wanted, exact, bucket.shape, w.clock)
            for name, view in kept.items():
                view.copy_(after[name])
            per_bucket.append(tuple(_for_rows(n, bucket.count).to(w.cohort.dtype) for n in numbers))
        found.append(per_bucket)
    return found


def _for_rows(number: Tensor, count: int) -> Tensor:
    return number.view(count, 1) if number.ndim == 1 else number


def _decide_for_model(rule: Reduction, work: Sequence[Work], sums: Sequence[Sequence[RowSums]]) -> list[list[Numbers]]:
    device = work[0].cohort.device
    oldest = max(work, key=lambda w: w.cohort.step).cohort
    exact = {name: oldest.state[name][0].to(device, sum_dtype(device)) for name in rule.memory}
    if isinstance(rule, Quantity):
        totals = rule.look([w.cohort.update for w in work], work[0].clock)
    else:
        parts = [tuple(s.sum().to(device) for s in bucket) for of_cohort in sums for bucket in of_cohort]
        totals = tuple(functools.reduce(operator.add, one) for one in zip(*parts, strict=True))
    numbers, after = rule.decide(totals, exact, (), work[0].clock)
    for w in work:
        for name in rule.memory:
            w.cohort.state[name].copy_(after[name].expand_as(w.cohort.state[name]))
    return [[tuple(n.to(w.cohort.update) for n in numbers) for _ in w.cohort.buckets] for w in work]
