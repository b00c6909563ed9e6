"""A stretch of a chain in one compiled loop: tracing its rules, compiling them once, and launching the loop."""

from __future__ import annotations

import ctypes
import functools
import operator
from array import array
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sooner.execute.c_source import ROW_VALUE, flat_names, row_value_names, write_source
from sooner.execute.cohort import Work
from sooner.execute.compiler import load
from sooner.execute.decide import Numbers, RowSums
from sooner.execute.eager import finish_eagerly, run_tensor_rule
from sooner.execute.expression import Operand, Program, Symbol
from sooner.transform import Quantity, Reduction

ELEMENTS_PER_THREAD = 32_768
"""With fewer elements for each, a further thread costs more than it brings (see benchmarks/update_step.py)."""

Kernel = Callable[..., None]


class Stretch:
    """One cohort's way through its chain, stretch by stretch.

    Attributes:
        work: the cohort, its chain and its clock.
        pending: a reduction that was added up and decided, whose last part opens the next stretch, with its numbers.
        program: what was traced since `begin`.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        self.pending: tuple[Reduction, list[Numbers]] | None = None
        self.program = Program()
        self._source = "gradient"  # where `u` is between stretches: in .grad still, or in the flat update vector
        self._applied = False
        self._u: Any = None
        self._start: Operand = ("in", 0)
        self._state: dict[str, Symbol] = {}
        self._by_rows = False
        self._row_numbers: list[list[Tensor]] = []
        self._kernel: Kernel | None = None

    def reduction(self, position: int) -> Reduction:
        """Return the rule at a position that is known to be a reduction."""
        rule = self.work.chain.rules[position]
        assert isinstance(rule, Reduction)
        return rule

    def begin(self) -> None:
        """Start a trace, with what is left of the last reduction."""
        self.program, self._state, self._row_numbers, self._by_rows = Program(), {}, [], False
        self._u = self.program.input(self._source)
        if self._source == "gradient" and self.work.maximize:
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
        self._by_rows |= rule.over == "row"
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
                symbols.append(self.program.input(f"{ROW_VALUE}{len(self._row_numbers)}"))
                self._row_numbers.append(of_buckets)
        self._by_rows |= rule.over == "row"
        self._u = rule.finish(self._u, self._theta(rule.reads_theta), tuple(symbols), self.work.clock)

    def end(self, *, last: bool) -> None:
        """Say what the stretch writes: the parameters at the end of a chain, else `u` unless it is where it was."""
        self.program.outputs.update({slot: self.program.operand(symbol) for slot, symbol in self._state.items()})
        if last and self.work.moves:
            self.program.outputs["theta"] = self.program.operand(self.program.input("theta") + self._u)
        elif last or self.program.operand(self._u) != self._start:
            self.program.outputs["update"] = self.program.operand(self._u)

    def compile(self) -> None:
        """Have the traced program ready to run.

        Raises:
            NoCompilerError: it can't be compiled.
        """
        cohort = self.work.cohort
        dtypes = (cohort.params[0].dtype, self.work.gradients[0].dtype, cohort.dtype)
        self._kernel = _compiled(self.program.key(), *(str(d).removeprefix("torch.") for d in dtypes))

    def launch(self) -> list[RowSums]:
        """Run the compiled program over the cohort's tensors and return what it added up, per bucket."""
        cohort, program = self.work.cohort, self.program
        layout = cohort.layout(self._by_rows)
        gradients, copies = _dense(self.work.gradients), _dense(cohort.params)
        threads = max(1, min(torch.get_num_threads(), cohort.offsets[-1] // ELEMENTS_PER_THREAD))
        flats = [cohort.update if n == "update" else cohort.state[n] for n in flat_names(program)]
        sums = torch.zeros(len(program.sums), layout.total_rows, dtype=torch.float64)
        values = [self._for_rows(self._row_numbers[i]) for i in range(len(row_value_names(program)))]
        assert self._kernel is not None
        arguments = (
            *(layout.offsets, layout.rows, layout.first_row),
            *(_addresses(copies), _addresses(gradients), _addresses(flats), _addresses(values)),
            array("d", program.numbers),
        )
        self._kernel(len(cohort.params), *(a.buffer_info()[0] for a in arguments), threads, sums.data_ptr())
        if "theta" in program.outputs:
            self._applied = True
            if copies is not cohort.params:
                torch._foreach_copy_(cohort.params, copies)
        if "update" in program.outputs:
            self._source = "update"
        self.pending = None
        return (
            [tuple(s[a:b].view(n, -1) for s in sums) for a, b, n in layout.buckets]
            if program.sums
            else [()] * len(cohort.buckets)
        )

    def run_tensor_rule(self, position: int) -> None:
        """Run a rule that needs whole parameters."""
        rule = self.work.chain.rules[position]
        self._gather()
        if rule.reads_theta:
            self.work.cohort.gather_parameters()
        run_tensor_rule(rule, self.work.cohort, self.work.clock)

    def give_up(self) -> None:
        """Leave the cohort's flat vectors as the eager executor expects them before the next rule."""
        self._gather()
        self.work.cohort.gather_parameters()
        if self.pending:
            finish_eagerly(self.pending[0], self.work, self.pending[1])

    def apply(self) -> None:
        """Move the parameters, if the last stretch has not done it."""
        if self.work.moves and not self._applied:
            self.work.cohort.apply()

    def _gather(self) -> None:
        if self._source == "gradient":
            self.work.cohort.gather_gradients(self.work.gradients, self.work.maximize)
            self._source = "update"

    def _theta(self, reads: bool) -> Any:
        return self.program.input("theta") if reads else None

    def _keep(self, slots: tuple[str, ...], after: Any) -> None:
        self._state.update({slot: after[slot] for slot in slots})

    def _for_rows(self, of_buckets: list[Tensor]) -> Tensor:
        """Return one value for every row of the cohort, in order."""
        cohort = self.work.cohort
        heights = [bucket.rows[0] if self._by_rows else 1 for bucket in cohort.buckets]
        every = [
            n.expand(bucket.count, height).reshape(-1)
            for n, bucket, height in zip(of_buckets, cohort.buckets, heights, strict=True)
        ]
        return torch.cat(every)


@functools.lru_cache(maxsize=256)
def _compiled(key: tuple[Any, ...], theta: str, gradient: str, state: str) -> Kernel:
    run: Kernel = load(write_source(Program.from_key(key), theta, gradient, state)).run
    run.argtypes = [ctypes.c_long, *[ctypes.c_void_p] * 8, ctypes.c_int, ctypes.c_void_p]  # type: ignore[attr-defined]
    run.restype = None  # type: ignore[attr-defined]
    return run


def _dense(tensors: list[Tensor]) -> list[Tensor]:
    """Return the list itself, or one with copies of those that are not contiguous or not of the first one's dtype."""
    if all(map(Tensor.is_contiguous, tensors)) and len(set(map(_dtype, tensors))) == 1:
        return tensors
    return [t.detach().to(tensors[0].dtype).contiguous() for t in tensors]


_dtype = operator.attrgetter("dtype")


def _addresses(tensors: list[Tensor]) -> array[int]:
    return array("Q", map(Tensor.data_ptr, tensors))
