"""A work's way through its chain, and the driver that all executors share.

Only rules that need sums over the whole model tie cohorts together. The chain is cut behind them: up to a cut all
cohorts advance side by side, then the sums are put together, and behind the last cut every cohort goes its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sooner.execute.decide import Numbers, decide_for_model
from sooner.execute.work import Work
from sooner.transform import Quantity, Reduction, Transform


@dataclass(frozen=True)
class Pending:
    """A reduction that was added up and decided, whose last part opens what comes next.

    Attributes:
        rule: the reduction.
        numbers: for each bucket what `Reduction.finish` gets; of a model rule the same for all, once.
    """

    rule: Reduction
    numbers: list[Numbers]


@dataclass
class Passage:
    """One cohort's way through its chain.

    Attributes:
        work: the cohort, its chain and its clock.
        position: number of the next rule.
        pending: the model rule that was decided last.
        flat: where ``u`` is, a vector ``[D]`` of all elements; None while it is the gradient itself.
        eagerly: whether the rest of the chain runs eagerly, because some of it could not be compiled or its state
            rests in few bits.
    """

    work: Work
    position: int = 0
    pending: Pending | None = None
    flat: Tensor | None = None
    eagerly: bool = False

    @property
    def rules(self) -> tuple[Transform, ...]:
        """The rules of the chain."""
        return self.work.chain.rules

    @property
    def cut(self) -> int:
        """The position of the next rule that needs sums over the whole model; behind the last rule if there is none."""
        rules = self.rules
        ahead = range(self.position, len(rules))
        return next((i for i in ahead if is_of_model(rules[i])), len(rules))

    def place(self) -> Tensor:
        """Return the vector ``[D]`` to put ``u`` into."""
        if self.flat is None:
            cohort = self.work.cohort
            self.flat = torch.empty(cohort.offsets[-1], dtype=cohort.dtype, device=cohort.device)
        return self.flat


Advance = Callable[[Sequence[Passage]], list[tuple[Tensor, ...]]]
"""Runs every passage up to its cut, and returns of each what its model rule adds up; () at the end of a chain."""


def drive(work: Sequence[Work], advance: Advance) -> None:
    """Take one step for every cohort."""
    side_by_side: dict[tuple[type, ...], list[Passage]] = {}
    for one in work:
        passage = Passage(one, eagerly=bool(one.cohort.packed))
        side_by_side.setdefault(_until_cut(passage), []).append(passage)
    while side_by_side:
        for passage in _advance(side_by_side.pop(next(iter(side_by_side))), advance):
            side_by_side.setdefault(_until_cut(passage), []).append(passage)


def _advance(passages: Sequence[Passage], advance: Advance) -> Sequence[Passage]:
    """Take passages up to their common cut and behind it; return those that go on."""
    sums = advance(passages)
    cut = passages[0].cut
    if cut == len(passages[0].rules):
        return ()
    rules = [p.rules[cut] for p in passages]
    numbers = decide_for_model(rules, [p.work for p in passages], sums, lambda: [p.place() for p in passages])  # type: ignore[arg-type]
    for passage, rule, found in zip(passages, rules, numbers, strict=True):
        passage.pending = Pending(rule, [found])  # type: ignore[arg-type]
        passage.position = cut + 1
    return passages


def _until_cut(passage: Passage) -> tuple[type, ...]:
    """Return the kinds of rules up to the next cut: passages that share them advance together."""
    pending = type(passage.pending.rule) if passage.pending else type(None)
    rules, cut = passage.rules, passage.cut
    if cut == len(rules):
        return (pending,)  # nothing ties them together any more
    return (pending, *map(type, rules[passage.position : cut + 1]))


def is_of_model(rule: Transform) -> bool:
    """Whether the rule needs sums over the whole model."""
    return isinstance(rule, Reduction) and rule.over == "model"


def stores(rule: Transform) -> bool:
    """Whether a model rule wants all of ``u`` at hand when it decides."""
    return isinstance(rule, Quantity)
