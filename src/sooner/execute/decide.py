"""The middle part of a reduction: from the sums of rows to the numbers that every row goes on with.

The same for all executors, on tensors with one element per row, so that only the long vectors are worth compiling.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from sooner.error import SoonerError
from sooner.execute.cohort import Bucket, Work
from sooner.execute.shards import Spread
from sooner.transform import Quantity, Reduction, Scope

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
            wanted = tuple(_complete(one, rule.over, bucket, w.cohort.spread) for one in of_bucket)
            numbers, after = rule.decide(wanted, exact, bucket.whole, w.clock)
            for name, view in kept.items():
                view.copy_(after[name])
            per_bucket.append(tuple(_for_rows(n, bucket, w.cohort.spread).to(w.cohort.dtype) for n in numbers))
        found.append(per_bucket)
    return found


def _total(sums: Tensor, spread: Spread | None) -> Tensor:
    total = sums.sum()
    return spread.whole_sums(total.view(1, 1), ()).squeeze() if spread else total


def _complete(sums: Tensor, over: Scope, bucket: Bucket, spread: Spread | None) -> Tensor:
    """Return the sums ``[count, rows]`` or ``[count]`` over whole parameters."""
    if over == "row":
        return spread.whole_sums(sums, bucket.whole) if spread else sums
    total = sums.sum(1)
    return spread.whole_sums(total.view(-1, 1), ()).squeeze(1) if spread else total


def _for_rows(number: Tensor, bucket: Bucket, spread: Spread | None) -> Tensor:
    if number.ndim < 2:
        return number.view(bucket.count, 1)
    return spread.own_rows(number, bucket.whole, bucket.rows[0]) if spread else number


def _decide_for_model(rule: Reduction, work: Sequence[Work], sums: Sequence[Sequence[RowSums]]) -> list[list[Numbers]]:
    device = work[0].cohort.device
    oldest = max(work, key=lambda w: w.cohort.step).cohort
    exact = {name: oldest.state[name][0].to(device, sum_dtype(device)) for name in rule.memory}
    if isinstance(rule, Quantity):
        if any(w.cohort.spread for w in work):
            raise SoonerError(
                f"{type(rule).__name__} looks at all elements at once, which sharded parameters do not allow; "
                "use a rule that works with sums, such as clipping by norm"
            )
        totals = rule.look([w.cohort.update for w in work], work[0].clock)
    else:
        parts = [
            tuple(_total(s, w.cohort.spread).to(device) for s in bucket)
            for w, of_cohort in zip(work, sums, strict=True)
            for bucket in of_cohort
        ]
        totals = tuple(functools.reduce(operator.add, one) for one in zip(*parts, strict=True))
    numbers, after = rule.decide(totals, exact, (), work[0].clock)
    for w in work:
        for name in rule.memory:
            w.cohort.state[name].copy_(after[name].expand_as(w.cohort.state[name]))
    return [[tuple(n.to(w.cohort.update) for n in numbers) for _ in w.cohort.buckets] for w in work]
