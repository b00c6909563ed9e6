"""A stretch of a chain: consecutive rules that run as one compiled program, traced here for any kind of compiler."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from sooner.execute.c_source import ROW_VALUE
from sooner.execute.cohort import Work
from sooner.execute.decide import Numbers, RowSums
from sooner.execute.eager import finish_eagerly, run_tensor_rule
from sooner.execute.expression import Operand, Program, Symbol
from sooner.transform import Quantity, Reduction, Scope


class Stretch:
    """One cohort's way through its chain, stretch by stretch.

    Attributes:
        work: the cohort, its chain and its clock.
        pending: a reduction that was added up and decided, whose last part opens the next stretch, with its numbers.
        program: what was traced since `begin`.
        source: where ``u`` is between stretches, "gradient" (in ``.grad``, untouched) or "update" (the flat vector).
        over: over what the stretch's last rule adds up.
        by_rows: whether the stretch works with the rows of weights; otherwise every parameter is one row.
        row_numbers: for every row value of the program, the numbers of each bucket.
        moves_parameters: whether the last stretch of a chain writes the parameters itself.
    """

    moves_parameters: ClassVar[bool] = True

    def __init__(self, work: Work) -> None:
        self.work = work
        self.pending: tuple[Reduction, list[Numbers]] | None = None
        self.program = Program()
        self.source = "gradient"
        self._applied = False
        self._u: Any = None
        self._start: Operand = ("in", 0)
        self._state: dict[str, Symbol] = {}
        self.by_rows = False
        self.over: Scope | None = None
        self.row_numbers: list[list[Tensor]] = []

    def reduction(self, position: int) -> Reduction:
        """Return the rule at a position that is known to be a reduction."""
        rule = self.work.chain.rules[position]
        assert isinstance(rule, Reduction)
        return rule

    def begin(self) -> None:
        """Start a trace, with what is left of the last reduction."""
        self.program, self._state, self.row_numbers, self.by_rows = Program(), {}, [], False
        self._u = self.program.input(self.source)
        if self.source == "gradient" and self.work.maximize:
            self._u = -self._u
        self._start = self._u.operand
        if self.pending:
            self.finish(*self.pending)

    def element(self, position: int) -> None:
        """Trace an element rule."""
        rule = self.work.chain.rules[position]
        before: Any = {slot: self.program.input(slot) for slot in rule.slots}
        self._u, after = rule.rule(self._u, before, self._theta(rule.reads_theta), self.work.clock)
        self._keep(rule.slots, after)

    def prepare(self, position: int) -> None:
        """Trace the first part of a reduction."""
        rule = self.reduction(position)
        before: Any = {slot: self.program.input(slot) for slot in rule.slots}
        self._u, after, vectors = rule.prepare(self._u, before, self._theta(rule.reads_theta), self.work.clock)
        self._keep(rule.slots, after)
        self.program.sums = [self.program.operand(v) for v in vectors]
        self.by_rows |= rule.over == "row"
        self.over = rule.over
        if isinstance(rule, Quantity):  # it looks at the vector itself
            self._start = ("none", 0)

    def finish(self, rule: Reduction, numbers: list[Numbers]) -> None:
        """Trace the last part of a reduction, with its numbers as arguments."""
        symbols: list[Any] = []
        for i in range(len(numbers[0]) if numbers else 0):
            of_buckets = [of_bucket[i] for of_bucket in numbers]
            if rule.over == "model":
                symbols.append(of_buckets[0])
            else:
                symbols.append(self.program.input(f"{ROW_VALUE}{len(self.row_numbers)}"))
                self.row_numbers.append(of_buckets)
        self.by_rows |= rule.over == "row"
        self._u = rule.finish(self._u, self._theta(rule.reads_theta), tuple(symbols), self.work.clock)

    def end(self, *, last: bool) -> None:
        """Say what the stretch writes: the parameters at the end of a chain, else `u` unless it is where it was."""
        self.program.outputs.update({slot: self.program.operand(symbol) for slot, symbol in self._state.items()})
        if last and self.work.moves and self.moves_parameters:
            self.program.stochastic = self.work.salt is not None
            self.program.outputs["theta"] = self.program.operand(self.program.input("theta") + self._u)
        elif last or self.program.operand(self._u) != self._start:
            self.program.outputs["update"] = self.program.operand(self._u)

    def compile(self) -> None:
        """Have the traced program ready to run.

        Raises:
            NoCompilerError: it can't be compiled.
        """
        raise TypeError(f"{type(self).__name__} compiles nothing")

    def run(self) -> list[RowSums]:
        """Run the compiled program over the cohort and return what it added up, per bucket."""
        raise TypeError(f"{type(self).__name__} runs nothing")

    def launch(self) -> list[RowSums]:
        """Run the stretch and remember where its results are."""
        sums = self.run()
        self._applied = "theta" in self.program.outputs
        if "update" in self.program.outputs:
            self.source = "update"
        self.pending = None
        return sums

    def run_tensor_rule(self, position: int) -> None:
        """Run a rule that needs whole parameters."""
        rule = self.work.chain.rules[position]
        self.gather()
        if rule.reads_theta:
            self.work.cohort.gather_parameters()
        run_tensor_rule(rule, self.work.cohort, self.work.clock)

    def give_up(self) -> None:
        """Leave the cohort's flat vectors as the eager executor expects them before the next rule."""
        self.gather()
        self.work.cohort.gather_parameters()
        if self.pending:
            finish_eagerly(self.pending[0], self.work, self.pending[1])

    def apply(self) -> None:
        """Move the parameters, if the last stretch has not done it."""
        if self.work.moves and not self._applied:
            self.work.cohort.apply(self.work.salt)

    def gather(self) -> None:
        """Have ``u`` in the cohort's flat update vector."""
        if self.source == "gradient":
            self.work.cohort.gather_gradients(self.work.gradients, self.work.maximize)
            self.source = "update"

    def _theta(self, reads: bool) -> Any:
        return self.program.input("theta") if reads else None

    def _keep(self, slots: tuple[str, ...], after: Any) -> None:
        self._state.update({slot: after[slot] for slot in slots})

    def for_rows(self, of_buckets: list[Tensor]) -> Tensor:
        """Return one value for every row of the cohort, in the order of the parameters."""
        cohort = self.work.cohort
        heights = [bucket.rows[0] if self.by_rows else 1 for bucket in cohort.buckets]
        every = [
            n.expand(bucket.count, height).reshape(-1)
            for n, bucket, height in zip(of_buckets, cohort.buckets, heights, strict=True)
        ]
        return torch.cat(every)
