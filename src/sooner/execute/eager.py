"""The eager executor: every rule as written, with ordinary PyTorch operations. It is the reference for faster ones."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from sooner.execute.cohort import Cohort, Work
from sooner.transform import Clock, ModelTransform, State, Transform


def run_eager(work: Sequence[Work]) -> None:
    """Take one step for every cohort.

    All chains must have the same kinds of rules, so that model rules see all cohorts at once.
    """
    updates = [w.cohort.gather_gradients(w.maximize) for w in work]
    thetas = [w.cohort.gather_parameters() if w.chain.reads_theta else None for w in work]
    for position in range(len(work[0].chain.rules) if work else 0):
        rules = [w.chain.rules[position] for w in work]
        if isinstance(rules[0], ModelTransform):
            updates = _run_model_rule(rules, updates)  # type: ignore[arg-type]
            continue
        for i, (w, rule) in enumerate(zip(work, rules, strict=True)):
            run = _run_tensor_rule if rule.grain == "tensor" else _run_element_rule
            updates[i] = run(rule, w.cohort, updates[i], thetas[i], w.clock)
    for w, update in zip(work, updates, strict=True):
        w.cohort.apply(update)


def _run_model_rule(rules: Sequence[ModelTransform], updates: Sequence[Tensor]) -> list[Tensor]:
    shares = [rule.measure(u) for rule, u in zip(rules, updates, strict=True)]
    total = functools.reduce(operator.add, [share.to(shares[0].device) for share in shares])
    return [rule.rule_with(u, total.to(u)) for rule, u in zip(rules, updates, strict=True)]


def _run_element_rule(rule: Transform, cohort: Cohort, u: Tensor, theta: Tensor | None, clock: Clock) -> Tensor:
    u, state = rule.rule(u, {slot: cohort.state[slot] for slot in rule.slots}, theta, clock)
    _store(rule, state, cohort.state)
    return u


def _run_tensor_rule(rule: Transform, cohort: Cohort, u: Tensor, theta: Tensor | None, clock: Clock) -> Tensor:
    out = torch.empty_like(u)
    for bucket in cohort.buckets:
        before = {slot: bucket.stack(cohort.state[slot]) for slot in rule.slots}
        stacked, after = rule.rule(bucket.stack(u), before, None if theta is None else bucket.stack(theta), clock)
        _store(rule, after, before)
        bucket.stack(out).copy_(stacked)
    return out


def _store(rule: Transform, new: State, into: State) -> None:
    for slot in rule.slots:
        into[slot].copy_(new[slot])
