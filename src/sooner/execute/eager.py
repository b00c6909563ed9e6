"""The eager executor: every rule as written, with ordinary PyTorch operations. It is the reference for faster ones.

Rules run over a few parameters, or a piece of one, at a time: on a CPU as many elements as fit the cache, for a large
temporary would be fetched from the operating system, page by page, at every operation.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sooner.execute.chunk import Bucket, Chunk
from sooner.execute.cohort import MASTER
from sooner.execute.decide import RowSums, decide, recall, sum_dtype
from sooner.execute.passage import Passage, Pending, drive, is_of_model, stores
from sooner.execute.rounding import round_stochastically
from sooner.execute.work import Work
from sooner.transform import Reduction, Transform

PIECE = 2**18
"""Elements of a piece on a CPU: 1 MiB in float32. See benchmarks/update_step.py."""

CHUNK = 2**20
"""Elements that rules for whole parameters work on at a time on a CPU."""

ON_DEVICE = 2**24
"""Elements that rules work on at a time on an accelerator: 64 MiB in float32."""


def run_eager(work: Sequence[Work]) -> None:
    """Take one step for every cohort."""
    for one in work:
        one.count_here()
    drive(work, advance_eagerly)


def advance_eagerly(passages: Sequence[Passage]) -> list[tuple[Tensor, ...]]:
    """Run every passage up to its cut."""
    return [_advance(passage) for passage in passages]


def _advance(passage: Passage) -> tuple[Tensor, ...]:
    work, cut = passage.work, passage.cut
    whole = any(rule.grain != "element" for rule in passage.rules[passage.position : cut])
    on_cpu = work.cohort.device.type == "cpu"
    limit = CHUNK if on_cpu and whole else PIECE if on_cpu else ON_DEVICE
    keep = cut < len(passage.rules) and stores(passage.rules[cut])
    if passage.flat is None and not work.cohort.plain_gradients:
        work.gradients = list(map(Tensor.contiguous, work.gradients))  # once, not for every piece
    flat, found, untouched = passage.flat, [], []
    for chunk in work.cohort.chunks(limit, whole=whole):
        start = of_gradients(work, chunk) if flat is None else chunk.cut_from(flat)
        stretch = Eagerly(work, chunk, start, passage.pending)
        found.append(stretch.run(passage.position, cut))
        if cut < len(passage.rules) and (keep or stretch.u is not start):
            chunk.cut_from(passage.place()).copy_(stretch.u)
        elif flat is None:
            untouched.append(chunk)
    settle(passage, untouched)
    return tuple(functools.reduce(operator.add, one) for one in zip(*found, strict=True))


def settle(passage: Passage, untouched: Sequence[Chunk]) -> None:
    """Put the gradient where ``u`` is looked for, of chunks that need no more of it than others, as at a first step."""
    if passage.flat is None:
        return
    for chunk in untouched:
        chunk.cut_from(passage.flat).copy_(of_gradients(passage.work, chunk))


def of_gradients(work: Work, chunk: Chunk) -> Tensor:
    """Return what a chain starts from, one vector ``[d]`` of the chunk in the state's dtype; never written."""
    gradients = chunk.flat(work.gradients).to(work.cohort.dtype)
    return -gradients if work.maximize else gradients


def of_parameters(work: Work, chunk: Chunk) -> Tensor:
    """Return the parameters as one vector ``[d]`` in the state's dtype; of half-precision ones their float32 selves."""
    cohort = work.cohort
    shown = chunk.flat(cohort.pieces).detach()
    if not cohort.master:
        return shown.to(cohort.dtype)
    master = chunk.state(MASTER)
    return torch.where(master.to(shown.dtype) == shown, master, shown.to(cohort.dtype))  # unless somebody set them


class Eagerly:
    """One chunk on its way through a stretch of a chain.

    Args:
        work: the cohort's step.
        chunk: some of its parameters.
        u: the vector ``[d]`` of the chunk to start from; it is not written.
        pending: the reduction whose last part comes first.

    Attributes:
        u: what it is now.
    """

    def __init__(self, work: Work, chunk: Chunk, u: Tensor, pending: Pending | None) -> None:
        self.work, self.chunk, self.u, self.pending = work, chunk, u, pending
        self.clock = work.clock_of(chunk)

    @functools.cached_property
    def theta(self) -> Tensor:
        """The parameters as one vector ``[d]``."""
        return of_parameters(self.work, self.chunk)

    def run(self, position: int, stop: int) -> tuple[Tensor, ...]:
        """Run the rules ``[position, stop)``; at the chain's end move the parameters, before it begin the model rule.

        Returns:
            What the model rule at `stop` adds up.
        """
        rules = self.work.chain.rules
        if self.pending:
            self._finish(self.pending)
        for rule in rules[position:stop]:
            if isinstance(rule, Reduction):
                numbers = decide(rule, self.chunk, self.clock, self._prepare(rule))
                self._finish(Pending(rule, numbers))
            elif rule.grain == "tensor":
                self.u = run_tensor_rule(rule, self.work, self.chunk, self.u, self._theta_for(rule))
            else:
                self._by_element(rule)
        if stop == len(rules):
            arrive(self.work, self.chunk, self.u, lambda: self.theta)
            return ()
        rule = rules[stop]
        assert isinstance(rule, Reduction)
        vectors = self._begin(rule)
        totals = [v.sum(dtype=sum_dtype(self.work.cohort.device)) for v in vectors]
        return tuple(totals)

    def _theta_for(self, rule: Transform) -> Tensor | None:
        return self.theta if rule.reads_theta else None

    def _by_element(self, rule: Transform) -> None:
        """Run an element rule, on a CPU over pieces of the chunk, so that its temporaries stay small."""
        if self.u.device.type != "cpu" or len(self.u) <= PIECE:
            self._kept(rule, rule.rule)
            return
        kept = {slot: self.chunk.state(slot) for slot in rule.slots}
        theta, done = self._theta_for(rule), torch.empty_like(self.u)
        for start in range(0, len(self.u), PIECE):
            piece = slice(start, start + PIECE)
            before = {slot: vector[piece] for slot, vector in kept.items()}
            done[piece], after = rule.rule(self.u[piece], before, None if theta is None else theta[piece], self.clock)
            for slot, vector in before.items():
                vector.copy_(after[slot])
        self.u = done
        for slot, vector in kept.items():
            if not self.chunk.lends(slot):
                self.chunk.write(slot, vector)

    def _kept(self, rule: Transform, function: Callable[..., Any], **recalled: Tensor) -> list[Any]:
        """Call a rule with its state, keep the new state and return what else it returned after the new ``u``."""
        before = {slot: self.chunk.state(slot) for slot in rule.slots}
        more: list[Any]
        self.u, after, *more = function(self.u, {**before, **recalled}, self._theta_for(rule), self.clock)
        for slot in rule.slots:
            self.chunk.keep(slot, before[slot], after[slot])
        return more

    def _begin(self, rule: Reduction) -> tuple[Tensor, ...]:
        (vectors,) = self._kept(rule, rule.prepare, **self._recalled(rule))
        return vectors  # type: ignore[no-any-return]

    def _recalled(self, rule: Reduction) -> dict[str, Tensor]:
        """Return what a rule recalls: of a model rule 0-d numbers, else one for every element, ``[d]``."""
        if not rule.recalls:
            return {}
        numbers = recall(rule, self.chunk, self.clock)
        if is_of_model(rule):
            return dict(zip(rule.recalls, numbers[0], strict=True))
        sizes = [(b.count, b.rows[0] * b.rows[1]) for b in self.chunk.buckets]
        every = [
            torch.cat([n.expand(size).reshape(-1) for n, size in zip(of_buckets, sizes, strict=True)])
            for of_buckets in zip(*numbers, strict=True)
        ]
        return dict(zip(rule.recalls, every, strict=True))

    def _prepare(self, rule: Reduction) -> list[RowSums]:
        """Run the first part of a reduction and return what it added up, for every bucket."""
        vectors = self._begin(rule)
        exact = sum_dtype(self.work.cohort.device)
        return [
            tuple(bucket.rowed(v).sum(1, dtype=exact).view(bucket.count, bucket.rows[0]) for v in vectors)
            for bucket in self.chunk.buckets
        ]

    def _finish(self, pending: Pending) -> None:
        """Run the last part of a reduction with its numbers."""
        rule, clock = pending.rule, self.clock
        theta = self._theta_for(rule)
        if is_of_model(rule):
            self.u = rule.finish(self.u, theta, pending.numbers[0], clock)
            return
        done = []
        for bucket, numbers in zip(self.chunk.buckets, pending.numbers, strict=True):
            every = tuple(n.expand(bucket.count, bucket.rows[0]).reshape(-1, 1) for n in numbers)  # one for every row
            rowed = bucket.rowed(theta) if theta is not None else None
            done.append(rule.finish(bucket.rowed(self.u), rowed, every, clock).reshape(-1))
        self.u = done[0] if len(done) == 1 else torch.cat(done)


def run_tensor_rule(rule: Transform, work: Work, chunk: Chunk, u: Tensor, theta: Tensor | None) -> Tensor:
    """Run a rule on stacks of same-shaped parameters, from the chunk's vectors ``u`` and `theta` to the new ``u``."""
    before = {slot: chunk.state(slot) for slot in rule.slots}
    after: dict[str, list[Tensor]] = {slot: [] for slot in rule.slots}
    done = []
    for bucket in chunk.buckets:
        kept = {slot: bucket.kept(slot, before[slot]) for slot in rule.slots}
        weights = _whole(bucket, chunk, bucket.stack(theta)) if theta is not None else None
        stacked, new = rule.rule(_whole(bucket, chunk, bucket.stack(u)), kept, weights, work.clock_of(chunk))
        spread = chunk.cohort.spread
        done.append((spread.pieces_of_stack(stacked) if spread else stacked).reshape(-1))
        for slot, values in after.items():
            values.append(new[slot].reshape(-1))
    for slot, values in after.items():
        chunk.keep(slot, before[slot], values[0] if len(values) == 1 else torch.cat(values))
    return done[0] if len(done) == 1 else torch.cat(done)


def _whole(bucket: Bucket, chunk: Chunk, stack: Tensor) -> Tensor:
    return chunk.cohort.spread.whole_stack(stack, bucket.whole) if chunk.cohort.spread else stack


def arrive(work: Work, chunk: Chunk, u: Tensor, theta: Callable[[], Tensor]) -> None:
    """Add ``u`` to the parameters, in the state's dtype, rounding once at the end; or put it where it is wanted.

    Args:
        work: the cohort's step.
        chunk: some of its parameters.
        u: the displacement ``[d]``.
        theta: returns the parameters ``[d]`` in the state's dtype.
    """
    cohort = work.cohort
    if work.into is not None:
        torch._foreach_copy_(chunk.of(work.into), chunk.split(u, cohort.pieces))
        return
    parameters = chunk.of(cohort.pieces)
    if not cohort.mixed:
        torch._foreach_add_(parameters, chunk.split(u, cohort.pieces))
        return
    moved = u + theta()
    if cohort.master:
        chunk.keep(MASTER, chunk.state(MASTER), moved)
    elif work.rounds:
        moved = round_stochastically(moved, chunk.start, work.salts(chunk)[0])
    torch._foreach_copy_(parameters, chunk.split(moved, cohort.pieces))
