"""A stretch of a chain: consecutive rules that run as one compiled program, traced here for any kind of compiler."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from sooner.execute.c_source import ROW_VALUE
from sooner.execute.chunk import Chunk
from sooner.execute.cohort import MASTER
from sooner.execute.decide import Later, Numbers, RowSums, decide, recall
from sooner.execute.expression import Operand, Program, Symbol
from sooner.execute.passage import Pending, is_of_model, stores
from sooner.execute.work import Work
from sooner.transform import Reduction


class Stretch:
    """One chunk's way through a chain, stretch by stretch.

    Args:
        work: the cohort's step.
        chunk: some of its parameters, or all.
        u: where ``u`` is, a vector ``[d]`` of the chunk in the state's dtype; None for the gradients.
        pending: a reduction whose last part opens the next stretch.
        place: returns the vector to put ``u`` into; None makes one.

    Attributes:
        program: what was traced since `begin`.
        by_rows: whether the stretch works with the rows of weights; otherwise every parameter is one row.
        row_numbers: for every row value of the program, the numbers of each bucket.
        moves_parameters: whether the last stretch of a chain writes the parameters itself.
        takes_all: whether element rules run over all parameters of a cohort at once, where these are.
        arrived: whether it has.
    """

    moves_parameters: ClassVar[bool] = True
    takes_all: ClassVar[bool] = True

    def __init__(
        self,
        work: Work,
        chunk: Chunk,
        u: Tensor | None,
        pending: Pending | None,
        place: Callable[[], Tensor] | None = None,
    ) -> None:
        self.work, self.chunk, self.u, self.pending = work, chunk, u, pending
        self.clock = work.clock_of(chunk)
        self._place = place
        self.program = Program()
        self.arrived = False
        self.by_rows = False
        self.row_numbers: list[list[Tensor]] = []
        self._symbol: Any = None
        self._later: Later = []
        self._start: Operand = ("in", 0)
        self._state: dict[str, Symbol] = {}

    def trace(self, position: int, stop: int) -> tuple[int, Reduction | None]:
        """Trace the rules from `position` on, up to one that waits for its sums, one for whole parameters, or `stop`.

        Returns:
            The position behind the last rule that was traced, and the reduction that waits there for its sums.

        Raises:
            UntraceableError: a rule does what can't be traced.
        """
        rules = self.work.chain.rules
        self._begin()
        while position < stop:
            rule = rules[position]
            if rule.grain == "tensor":
                break
            position += 1
            if isinstance(rule, Reduction):
                self._prepare(rule)
                if self.program.sums:
                    self._end(last=False)
                    return position, rule
                nothing: list[RowSums] = [() for _ in self.chunk.buckets]
                self._finish(Pending(rule, decide(rule, self.chunk, self.clock, nothing, self._later)))
            else:
                before: Any = {slot: self.program.input(slot) for slot in rule.slots}
                self._symbol, after = rule.rule(self._symbol, before, self._theta(rule.reads_theta), self.clock)
                self._keep(rule.slots, after)
        if position == stop < len(rules) and is_of_model(rules[stop]):
            waiting = rules[stop]
            assert isinstance(waiting, Reduction)
            self._prepare(waiting)
            if stores(waiting):  # it looks at the vector itself
                self._start = ("none", 0)
            self._end(last=False)
            return stop, waiting
        self._end(last=position == len(rules))
        return position, None

    def _begin(self) -> None:
        """Start a trace, with what is left of the last reduction."""
        self.program, self._state, self.row_numbers, self.by_rows = Program(), {}, [], False
        self._later = []
        self._symbol = self.program.input("gradient" if self.u is None else "update")
        if self.u is None and self.work.maximize:
            self._symbol = -self._symbol
        self._start = self._symbol.operand
        if self.pending:
            self._finish(self.pending)

    def _prepare(self, rule: Reduction) -> None:
        """Trace the first part of a reduction."""
        before: Any = {slot: self.program.input(slot) for slot in rule.slots}
        if rule.recalls:
            before.update(zip(rule.recalls, self._symbols(rule, recall(rule, self.chunk, self.clock)), strict=True))
        self._symbol, after, vectors = rule.prepare(self._symbol, before, self._theta(rule.reads_theta), self.clock)
        self._keep(rule.slots, after)
        self.program.sums = [self.program.operand(v) for v in vectors]
        self.by_rows |= rule.over == "row"

    def _finish(self, pending: Pending) -> None:
        """Trace the last part of a reduction, with its numbers as arguments."""
        rule = pending.rule
        symbols = self._symbols(rule, pending.numbers)
        self.by_rows |= rule.over == "row"
        self._symbol = rule.finish(self._symbol, self._theta(rule.reads_theta), symbols, self.clock)

    def _symbols(self, rule: Reduction, numbers: Sequence[Numbers]) -> tuple[Any, ...]:
        """Return a rule's numbers as operands: of a model rule themselves, else values of rows."""
        if is_of_model(rule):
            return numbers[0]
        symbols = []
        for of_buckets in zip(*numbers, strict=True):
            symbols.append(self.program.input(f"{ROW_VALUE}{len(self.row_numbers)}"))
            self.row_numbers.append(list(of_buckets))
        return tuple(symbols)

    def _end(self, *, last: bool) -> None:
        """Say what the stretch writes: the parameters at the end of a chain, else `u` unless it is where it was."""
        outputs, operand = self.program.outputs, self.program.operand
        outputs.update({slot: operand(symbol) for slot, symbol in self._state.items()})
        if last and self.work.into is not None:
            outputs["into"] = operand(self._symbol)
        elif last and self.moves_parameters:
            self.program.stochastic = self.work.rounds
            moved = operand(self._theta(True) + self._symbol)
            if self.work.cohort.master:
                outputs[MASTER] = moved
            outputs["theta"] = moved
        elif last or operand(self._symbol) != self._start:
            outputs["update"] = operand(self._symbol)

    def _theta(self, reads: bool) -> Any:
        """Return the parameters' symbol; of half-precision ones their float32 selves, unless somebody else set them."""
        if not reads:
            return None
        theta = self.program.input("theta")
        if not self.work.cohort.master or not self.moves_parameters:
            return theta
        master = self.program.input(MASTER)
        return master.where(self.program.apply("as_theta", master).eq(theta), theta)

    def _keep(self, slots: tuple[str, ...], after: Any) -> None:
        self._state.update({slot: after[slot] for slot in slots})

    def compile(self) -> None:
        """Have the traced program ready to run.

        Raises:
            NoCompilerError: it can't be compiled.
        """
        raise TypeError(f"{type(self).__name__} compiles nothing")

    def again(self, position: int, stop: int) -> bool:
        """Have the program of an earlier step ready to run, with the numbers of this one; False where there is none."""
        return False

    def keep(self, position: int, stop: int) -> None:
        """Keep what was traced and compiled for the steps to come, where that is possible."""

    @classmethod
    def run_all(cls, stretches: Sequence[Stretch]) -> list[list[RowSums]]:
        """Run the compiled programs and return what each added up, per bucket."""
        raise TypeError(f"{cls.__name__} runs nothing")

    def launched(self) -> None:
        """Note that the traced program has run: its last reduction is finished and ``u`` is where it put it."""
        for memory, value in self._later:
            memory.copy_(value)
        self.pending, self._later = None, []
        self.arrived = "theta" in self.program.outputs or "into" in self.program.outputs

    def place(self) -> Tensor:
        """Return where the program puts ``u``, a vector ``[d]``."""
        if self.u is None:
            cohort = self.work.cohort
            empty = functools.partial(torch.empty, self.chunk.length, dtype=cohort.dtype, device=cohort.device)
            self.u = (self._place or empty)()
        return self.u

    def put(self, u: Tensor) -> None:
        """Take over a new vector ``u`` ``[d]``."""
        if self._place is None:
            self.u = u
        else:  # somebody waits for it behind the cut
            self.place().copy_(u)

    def for_rows(self, of_buckets: Sequence[Tensor]) -> Tensor:
        """Return one value for every row of the chunk, in the order of the parameters."""
        buckets = self.chunk.buckets
        every = [
            n.expand(bucket.count, bucket.rows[0] if self.by_rows else 1).reshape(-1)
            for n, bucket in zip(of_buckets, buckets, strict=True)
        ]
        return torch.cat(every)
