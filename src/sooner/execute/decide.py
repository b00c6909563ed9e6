"""The middle part of a reduction: from the sums of rows to the numbers that every row goes on with.

The same for all executors, on tensors with one element per row, so that only the long vectors are worth compiling.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sooner.error import SoonerError
from sooner.execute.chunk import Bucket, Chunk
from sooner.execute.shards import Spread
from sooner.execute.work import Work
from sooner.transform import Clock, Quantity, Reduction, Scope

RowSums = tuple[Tensor, ...]
"""For one bucket and every vector that was added up, ``[count, rows]``."""

Numbers = tuple[Tensor, ...]
"""For one bucket and every number that `Reduction.finish` gets, something that expands to ``[count, rows]``."""


def sum_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype in which sums are kept: float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


Later = list[tuple[Tensor, Tensor]]
"""Memory and what is to be put there."""


def recall(rule: Reduction, chunk: Chunk, clock: Clock) -> list[Numbers]:
    """Return what a rule recalls, in the order of its `recalls`, for each bucket; of a model rule for all, once."""
    cohort = chunk.cohort
    exact = sum_dtype(cohort.device)
    if rule.over == "model":
        known = rule.recall({name: cohort.shared[name].to(cohort.device, exact) for name in rule.memory}, clock)
        return [tuple(known[name].to(cohort.device, cohort.dtype) for name in rule.recalls)]
    known = rule.recall({name: chunk.state(name).to(exact) for name in rule.memory}, clock)
    numbers = [known[name].to(cohort.dtype) for name in rule.recalls]
    return [tuple(n[b.first : b.first + b.count].view(b.count, 1) for n in numbers) for b in chunk.buckets]


def decide(
    rule: Reduction, chunk: Chunk, clock: Clock, sums: Sequence[RowSums], later: Later | None = None
) -> list[Numbers]:
    """Run the middle part of a rule for rows or parameters, and keep its memory.

    Args:
        rule: the rule.
        chunk: the parameters.
        clock: as everywhere.
        sums: what was added up for each bucket.
        later: a list to put the new memory into, for who keeps it when the step was taken; None keeps it at once.

    Returns:
        For each bucket the numbers, in the dtype of the cohort's state.
    """
    spread = chunk.cohort.spread
    memory = {name: chunk.state(name) for name in rule.memory}
    found = []
    for bucket, of_bucket in zip(chunk.buckets, sums, strict=True):
        kept = {name: bucket.kept(name, flat) for name, flat in memory.items()}
        exact = {name: view.to(sum_dtype(view.device)) for name, view in kept.items()}
        wanted = tuple(_complete(one, rule.over, bucket, spread) for one in of_bucket)
        numbers, after = rule.decide(wanted, exact, bucket.whole, clock)
        for name, view in kept.items():
            if later is None:
                view.copy_(after[name])
            else:
                later.append((view, after[name]))
        found.append(tuple(_for_rows(n, bucket, spread).to(chunk.cohort.dtype) for n in numbers))
    return found


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


def decide_for_model(
    rules: Sequence[Reduction],
    work: Sequence[Work],
    sums: Sequence[tuple[Tensor, ...]],
    updates: Callable[[], Sequence[Tensor]],
) -> list[Numbers]:
    """Run the middle part of a rule for the whole model, and keep its memory.

    Args:
        rules: the rule of each cohort, of one kind; that of the first counts.
        work: the cohorts.
        sums: what each of them added up, 0-d.
        updates: returns ``u`` of each cohort as one vector; asked only where the rule wants to look at it.

    Returns:
        For each cohort the numbers, 0-d, in the dtype of its state.
    """
    rule, first = rules[0], work[0]
    device = first.cohort.device
    shared = first.cohort.shared
    exact = {name: shared[name].to(device, sum_dtype(device)) for name in rule.memory}
    cohorts = [w.cohort for w in work]
    if isinstance(rule, Quantity):
        if any(cohort.spread for cohort in cohorts):
            raise SoonerError(
                f"{type(rule).__name__} looks at all elements at once, which sharded parameters do not allow; "
                "use a rule that works with sums, such as clipping by norm"
            )
        totals = rule.look(updates(), first.clock)
    else:
        parts = [
            tuple(_total(s, cohort.spread).to(device) for s in of_cohort)
            for cohort, of_cohort in zip(cohorts, sums, strict=True)
        ]
        totals = tuple(functools.reduce(operator.add, one) for one in zip(*parts, strict=True))
    numbers, after = rule.decide(totals, exact, (), first.clock)
    for name in rule.memory:
        shared[name].copy_(after[name])
    return [tuple(n.to(cohort.device, cohort.dtype) for n in numbers) for cohort in cohorts]


def _total(total: Tensor, spread: Spread | None) -> Tensor:
    return spread.whole_sums(total.view(1, 1), ()).squeeze() if spread else total
