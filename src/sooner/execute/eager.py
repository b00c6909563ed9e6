"""The eager executor: every rule as written, with ordinary PyTorch operations. It is the reference for faster ones.

On a CPU, element rules run over pieces of the flat vectors that fit the cache: a large temporary would be fetched from
the operating system, page by page, at every operation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sooner.execute.cohort import PIECE, Bucket, Cohort, Work
from sooner.execute.decide import Numbers, RowSums, decide, sum_dtype
from sooner.transform import Clock, Reduction, State, Transform


def run_eager(work: Sequence[Work]) -> None:
    """Take one step for every cohort.

    All chains must have the same kinds of rules, so that model rules see all cohorts at once.
    """
    for w in work:
        w.cohort.gather_gradients(w.gradients, w.maximize)
        if w.chain.reads_theta:
            w.cohort.gather_parameters()
    run_rules(work, 0)
    for w in work:
        if w.moves:
            w.cohort.apply(w.salt)


def run_rules(work: Sequence[Work], first: int) -> None:
    """Run the rules from number `first` on, from the cohorts' flat update vectors into the same vectors."""
    for position in range(first, len(work[0].chain.rules) if work else 0):
        rules = [w.chain.rules[position] for w in work]
        if isinstance(rules[0], Reduction):
            run_reduction(rules, work)  # type: ignore[arg-type]
            continue
        for w, rule in zip(work, rules, strict=True):
            (run_tensor_rule if rule.grain == "tensor" else _run_element_rule)(rule, w.cohort, w.clock)


def _run_element_rule(rule: Transform, cohort: Cohort, clock: Clock) -> None:
    for piece in cohort.pieces():
        state = {slot: cohort.state[slot][piece] for slot in rule.slots}
        theta = cohort.theta[piece] if rule.reads_theta else None
        u, after = rule.rule(cohort.update[piece], state, theta, clock)
        _store(rule, after, state)
        cohort.update[piece].copy_(u)


def run_tensor_rule(rule: Transform, cohort: Cohort, clock: Clock) -> None:
    """Run a rule on stacks of same-shaped parameters, from the cohort's flat update vector into the same vector."""
    for bucket in cohort.buckets:
        before = {slot: bucket.kept(slot, cohort.state[slot]) for slot in rule.slots}
        theta = _whole(bucket, cohort, bucket.stack(cohort.theta)) if rule.reads_theta else None
        u = bucket.stack(cohort.update)
        stacked, after = rule.rule(_whole(bucket, cohort, u), before, theta, clock)
        _store(rule, after, before)
        u.copy_(cohort.spread.pieces_of_stack(stacked) if cohort.spread else stacked)


def _whole(bucket: Bucket, cohort: Cohort, stack: Tensor) -> Tensor:
    return cohort.spread.whole_stack(stack, bucket.whole) if cohort.spread else stack


def run_reduction(rules: Sequence[Reduction], work: Sequence[Work]) -> None:
    """Run one rule that needs sums, for all cohorts: add up, decide, finish."""
    sums = [_prepare(rule, w) for rule, w in zip(rules, work, strict=True)]
    for rule, w, numbers in zip(rules, work, decide(rules, work, sums), strict=True):
        finish_eagerly(rule, w, numbers)


def _prepare(rule: Reduction, w: Work) -> list[RowSums]:
    """Run the first part of a reduction and return what it added up, for every bucket."""
    cohort = w.cohort
    added = []
    for bucket in cohort.buckets:
        height, length = bucket.rows
        found: list[RowSums] = []
        for rows, piece in _whole_rows(bucket, cohort.device):
            state = {slot: cohort.state[slot][piece] for slot in rule.slots}
            theta = cohort.theta[piece] if rule.reads_theta else None
            u, after, vectors = rule.prepare(cohort.update[piece], state, theta, w.clock)
            found.append(
                tuple(v.view(rows.stop - rows.start, length).sum(1, dtype=sum_dtype(cohort.device)) for v in vectors)
            )
            _store(rule, after, state)
            cohort.update[piece].copy_(u)
        added.append(tuple(torch.cat(one).view(bucket.count, height) for one in zip(*found, strict=True)))
    return added


def _whole_rows(bucket: Bucket, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """Yield rows of the bucket and the piece of the flat vectors that they fill; one empty piece if there are none."""
    height, length = bucket.rows
    rows = bucket.count * height
    at_once = max(1, PIECE // max(length, 1)) if device.type == "cpu" else max(rows, 1)
    for row in range(0, max(rows, 1), at_once):
        last = min(row + at_once, rows)
        yield slice(row, last), slice(bucket.start + row * length, bucket.start + last * length)


def finish_eagerly(rule: Reduction, w: Work, numbers: list[Numbers]) -> None:
    """Run the last part of a reduction with its numbers."""
    cohort = w.cohort
    for bucket, of_bucket in zip(cohort.buckets, numbers, strict=True):
        height, length = bucket.rows
        every = [n.expand(bucket.count, height).reshape(-1, 1) for n in of_bucket]  # a number for every row
        for rows, piece in _whole_rows(bucket, cohort.device):
            shape = rows.stop - rows.start, length
            theta = cohort.theta[piece].view(shape) if rule.reads_theta else None
            u = cohort.update[piece].view(shape)
            u.copy_(rule.finish(u, theta, tuple(n[rows] for n in every), w.clock))


def _store(rule: Transform, new: State, into: State) -> None:
    for slot in rule.slots:
        into[slot].copy_(new[slot])
