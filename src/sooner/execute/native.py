"""The native executor: element rules written out as one C loop over the list of tensors, compiled and kept on disk.

It takes the same steps as the eager executor, to the last bit where only + - * / and roots are used. No loop runs on
memory that was not checked in the same step: shapes, strides and dtypes by the cohort, addresses taken anew.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import operator
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sooner.execute.c_source import C_TYPES, row_value_names, vector_names, write_source
from sooner.execute.cohort import places_of, plain, shared_memory
from sooner.execute.compiler import compiler, load
from sooner.execute.decide import RowSums
from sooner.execute.eager import run_eager
from sooner.execute.expression import Program
from sooner.execute.fused import run_fused
from sooner.execute.low_bits import in_c
from sooner.execute.rates import Rates
from sooner.execute.replay import Tape, is_fixed, numbers_of
from sooner.execute.trace import Stretch
from sooner.execute.work import Work
from sooner.transform import Chain, Clock

ELEMENTS_PER_THREAD = 32_768
"""With fewer elements for each, a further thread costs more than it brings (see benchmarks/update_step.py)."""

TRIES = 4
"""After so many programs that were kept for nothing, as where the weight decay changes at every step, none is kept."""

NUMBERS = (int, float, Rates)
"""Types of learning rates that a kept program is good for."""

Kernel = Callable[..., None]


def _no_kernel(*arguments: object) -> None:
    raise TypeError("nothing was compiled")


def run_native(work: Sequence[Work]) -> None:
    """Take one step for every cohort, as `run_eager`, which also serves parameters that are not on the CPU."""
    for one in work:
        one.count_here()
    if not work or compiler() is None or any(w.cohort.device.type != "cpu" for w in work):
        run_eager(work)
    elif not _repeat(work):
        with in_c():
            run_fused(work, NativeStretch)


def _repeat(work: Sequence[Work]) -> bool:
    if len(work) == 1 and len(work[0].cohort.bands) == 1:
        return _repeat_alone(work[0])
    return repeat(work, NativeStretch)


def repeat(work: Sequence[Work], kind: type[NativeStretch]) -> bool:
    """Take the step by programs of an earlier one; False, and nothing has moved, where a cohort has none."""
    stretches = []
    for one in work:
        if not one.cohort.kept:
            return False
        stretches.append(kind(one, one.cohort.whole, None, None))
        if not stretches[-1].again(0, len(one.chain.rules)):
            return False
    kind.run_all(stretches)
    return True


def _repeat_alone(work: Work) -> bool:
    """Take the step of parameters that have one clock by the program of an earlier one; False where there is none."""
    cohort, clock = work.cohort, work.clock
    kept = cohort.kept.get((NativeStretch, 0, len(work.chain.rules)))
    numbers = None if kept is None else kept.numbers_for(work, clock)
    if kept is None or numbers is None:
        return False
    if not kept.moves or any(name not in cohort.addresses for name in kept.vectors):
        stretch = NativeStretch(work, cohort.whole, None, None)
        stretch.take(kept, numbers)
        NativeStretch.run_all([stretch])
        return True
    rows, count = cohort.whole.rows(False), len(cohort.params)
    vectors = array("Q")
    for name in kept.vectors:
        vectors += cohort.addresses[name]
    values = array("d", numbers)
    fixed = (rows.offsets, rows.rows, rows.first_row, rows.sets)
    kept.kernel(
        count,
        *(one.buffer_info()[0] for one in fixed),
        vectors.buffer_info()[0],
        None,
        values.buffer_info()[0],
        rows.zeros.buffer_info()[0],
        threads_for(rows.offsets[-1]),
        None,
    )
    cohort.written(0, count)
    return True


def threads_for(elements: int) -> int:
    """Return how many threads share a loop over so many elements."""
    return max(1, min(torch.get_num_threads(), elements // ELEMENTS_PER_THREAD))


@dataclass
class Kept:
    """A program of an earlier step.

    Attributes:
        chain, switches: what it was traced for.
        unused: how many programs before it were traced and kept for nothing.
        numbers: some of them `Reckoned`.
        tape: None where it can't be used again.
        vectors: what the program touches, in the order of the loop's arguments.
        moves: whether it needs nothing but these and numbers, and writes the parameters where they are.
    """

    chain: Chain
    switches: tuple[Any, ...]
    unused: int
    numbers: list[Any] = field(default_factory=list)
    tape: Tape | None = None
    program: Program = field(default_factory=Program)
    kernel: Kernel = _no_kernel
    vectors: Sequence[str] = ()
    moves: bool = False

    def numbers_for(self, work: Work, clock: Clock) -> list[Any] | None:
        """Return the program's numbers for another step of the same cohort; None where it can't be used for it."""
        if self.tape is None or type(clock.learning_rate) not in NUMBERS:
            return None
        if self.switches != _switches(work) or self.chain != work.chain:
            return None
        values = self.tape.again(clock.step, clock.learning_rate)
        if values is None:
            return None
        self.unused = 0
        return numbers_of(self.numbers, values)


def _switches(work: Work) -> tuple[Any, ...]:
    """Return what decides, besides chain and clock, what is traced and compiled."""
    cohort = work.cohort
    return work.maximize, work.rounds, work.into is None, cohort.plain_gradients, cohort.gradient_dtype


class NativeStretch(Stretch):
    """A stretch as one C loop, together with all others that run the same program."""

    kernel: Kernel
    gradients: list[Tensor] | None = None

    def compile(self) -> None:
        """Compile the traced program, or find it in the cache."""
        self.kernel = _compiled(self.program.key(), *self.dtypes())

    def dtypes(self) -> tuple[str, str, str]:
        """Return the names of the dtypes of parameters, gradients and state, as the program meets them."""
        cohort = self.work.cohort
        gradient = self._gradient_dtype() if "gradient" in self.program.inputs else cohort.dtype
        return _name(cohort.params[0].dtype), _name(gradient), _name(cohort.dtype)

    def again(self, position: int, stop: int) -> bool:
        """Take the program of an earlier step, where the same chain runs over the same cohort."""
        kept = self.work.cohort.kept.get((type(self), position, stop))
        if kept is None or not self._repeats():
            return False
        numbers = kept.numbers_for(self.work, self.clock)
        if numbers is not None:
            self.take(kept, numbers)
        return numbers is not None

    def take(self, kept: Kept, numbers: list[Any]) -> None:
        """Have a program of an earlier step ready to run with other numbers."""
        self.program, self.kernel, self.program.numbers = kept.program, kept.kernel, numbers

    def keep(self, position: int, stop: int) -> None:
        """Keep the program, if the rules can be traced with numbers that write down what becomes of them."""
        cohort = self.work.cohort
        before = cohort.kept.get((type(self), position, stop))
        unused = 0 if before is None else before.unused + 1
        if unused > TRIES or not self._repeats():
            return
        cohort.kept[type(self), position, stop] = kept = Kept(self.work.chain, _switches(self.work), unused)
        if type(self.clock.learning_rate) not in NUMBERS or not is_fixed(self.work.chain):
            return
        tape = Tape(self.clock.step, self.clock.learning_rate)
        twin = type(self)(self.work, self.chunk, None, None)
        twin.clock = Clock(tape.step, tape.rate)  # type: ignore[arg-type]
        try:
            twin.trace(position, stop)
        except (TypeError, ValueError, ArithmeticError):
            return
        values = tape.again(self.clock.step, self.clock.learning_rate)
        if values is None or twin.program.key() != self.program.key():
            return
        kept.numbers, twin.program.numbers = twin.program.numbers, numbers_of(twin.program.numbers, values)
        if any(isinstance(n, Tensor) for n in kept.numbers) or [*_numbers(twin)] != [*_numbers(self)]:
            return
        program = twin.program
        kept.program, kept.kernel, kept.tape = program, self.kernel, tape
        kept.vectors = vector_names(program)
        alone = not (program.sums or program.stochastic or row_value_names(program))
        kept.moves = alone and "theta" in program.outputs and cohort.plain_parameters

    def _repeats(self) -> bool:
        """Whether a step like this one may come again: all of a cohort that stayed as it is, from the gradients on."""
        whole = self.chunk is self.work.cohort.whole and self.work.cohort.steady
        return whole and self.u is None and not self.pending and self.gradients is None

    def _gradient_dtype(self) -> torch.dtype:
        """Return the one dtype of the gradients as the loop reads them, and have them at hand where they are copies."""
        cohort = self.work.cohort
        if cohort.plain_gradients and _name(cohort.gradient_dtype) in C_TYPES:
            return cohort.gradient_dtype
        gradients = self.chunk.of(self.work.gradients)
        kinds = {g.dtype for g in gradients}
        dtype = gradients[0].dtype
        if len(kinds) > 1 or _name(dtype) not in C_TYPES:
            dtype = cohort.dtype
        self.gradients = [g.detach().resolve_neg().to(dtype).contiguous() for g in gradients]
        return dtype

    @classmethod
    def run_all(cls, stretches: Sequence[Stretch]) -> list[list[RowSums]]:
        """Run the traced programs where parameters, gradients and state are, each program once for all it serves."""
        alike: dict[int, list[NativeStretch]] = {}
        for s in stretches:
            assert isinstance(s, NativeStretch)
            alike.setdefault(id(s.kernel), []).append(s)
        found = {id(s): sums for some in alike.values() for s, sums in zip(some, cls._run(some), strict=True)}
        for s in stretches:
            s.launched()
        return [found[id(s)] for s in stretches]

    def addresses(self, name: str, parameters: Sequence[Tensor]) -> array[int]:
        """Return where the tensors of a vector of the program begin, one per parameter."""
        cohort, chunk = self.work.cohort, self.chunk
        if name == "gradient" and self.gradients is not None:
            return places_of(self.gradients)
        if name in cohort.addresses and (name != "theta" or cohort.plain_parameters):
            return cohort.addresses[name][chunk.first : chunk.last]
        if name == "theta":
            return places_of(parameters)
        if name == "into":
            return places_of(chunk.of(self.work.into or []))
        if name == "update":
            base, size = self.place().data_ptr(), cohort.dtype.itemsize
            return array("Q", [base + size * offset for offset in chunk.offsets[:-1]])
        return places_of(chunk.of(cohort.state[name]))

    @classmethod
    def _run(cls, stretches: Sequence[NativeStretch]) -> list[list[RowSums]]:
        """Run one program over all parameters of all these stretches."""
        if len({id(s.work.cohort) for s in stretches}) > 1 and shared_memory(
            places_of([p for s in stretches for p in s.chunk.of(s.work.cohort.pieces)])
        ):  # one after the other, each with what the last one left
            return [sums for s in stretches for sums in cls.run_together([s])]
        return cls.run_together(stretches)

    @classmethod
    def run_together(cls, stretches: Sequence[NativeStretch]) -> list[list[RowSums]]:
        """Run one program over all parameters of all these stretches, in one loop."""
        program = stretches[0].program
        rows = [s.chunk.rows(s.by_rows) for s in stretches]
        counts = [len(r.rows) for r in rows]
        dense = [s.dense() for s in stretches]
        names = vector_names(program)
        vectors = array("Q")
        for name in names:
            for s, some in zip(stretches, dense, strict=True):
                vectors += s.addresses(name, some)
        if len(stretches) == 1:
            offsets, heights, first_rows = rows[0].offsets, rows[0].rows, rows[0].first_row
            sets, noise = rows[0].sets, rows[0].zeros
        else:
            heights = array("q", itertools.chain.from_iterable(r.rows for r in rows))
            starts = [0, *itertools.accumulate(r.offsets[-1] for r in rows)]
            offsets = array("q", (start + o for start, r in zip(starts, rows, strict=False) for o in r.offsets[:-1]))
            offsets.append(starts[-1])
            first_rows = array("q", [0, *itertools.accumulate(heights)][:-1])
            numbered = [0, *itertools.accumulate(len(s.chunk.bands) for s in stretches)]
            sets = array("q", (first + one for first, r in zip(numbered, rows, strict=False) for one in r.sets))
            noise = array("q", bytes(8 * sum(counts)))
        if program.stochastic:
            salts = (salt + s.chunk.start for s in stretches for salt in s.work.salts(s.chunk))
            places = (o for s in stretches for o in s.chunk.offsets[:-1])
            noise = array("q", map(operator.add, places, salts))
        all_rows = sum(r.total_rows for r in rows)
        sums = torch.zeros(len(program.sums), all_rows, dtype=torch.float64) if program.sums else None
        values = [
            torch.cat([s.for_rows(s.row_numbers[i]) for s in stretches]) for i in range(len(row_value_names(program)))
        ]
        numbers = array("d", itertools.chain.from_iterable(_numbers(s) for s in stretches))
        arguments = (offsets, heights, first_rows, sets, vectors, places_of(values), numbers, noise)
        addresses = [one.buffer_info()[0] for one in arguments]
        stretches[0].kernel(
            sum(counts), *addresses, threads_for(offsets[-1]), None if sums is None else sums.data_ptr()
        )
        for s, copies in zip(stretches, dense, strict=True):
            s.moved(copies)
        if sums is None:
            return [[() for _ in r.buckets] for r in rows]
        firsts = [0, *itertools.accumulate(r.total_rows for r in rows)]
        return [
            [tuple(s[first + a : first + b].view(n, -1) for s in sums) for a, b, n in r.buckets]
            for first, r in zip(firsts, rows, strict=False)
        ]

    def dense(self) -> list[Tensor]:
        """Return the parameters as the program meets them: those that are not laid out plainly are copied."""
        parameters = self.chunk.of(self.work.cohort.pieces)
        if self.work.cohort.plain_parameters:
            return parameters
        return [p if plain(p) else p.detach().resolve_neg().contiguous() for p in parameters]

    def moved(self, dense: list[Tensor]) -> None:
        """Take over what the program wrote to the parameters that `dense` returned, if it writes them."""
        if "theta" not in self.program.outputs:
            return
        if not self.work.cohort.plain_parameters:
            torch._foreach_copy_(self.chunk.of(self.work.cohort.pieces), dense)
        self.work.cohort.written(self.chunk.first, self.chunk.last)


def _numbers(stretch: NativeStretch) -> Iterator[float]:
    """Yield the program's numbers, set by set."""
    count = len(stretch.chunk.bands)
    if count == 1:
        yield from map(float, stretch.program.numbers)
        return
    each = [n.values if isinstance(n, Rates) else [float(n)] * count for n in stretch.program.numbers]
    yield from itertools.chain.from_iterable(zip(*each, strict=True))


@functools.lru_cache(maxsize=256)
def _compiled(key: tuple[Any, ...], theta: str, gradient: str, state: str) -> Kernel:
    run: Kernel = load(write_source(Program.from_key(key), theta, gradient, state)).run
    run.argtypes = [ctypes.c_long, *[ctypes.c_void_p] * 8, ctypes.c_int, ctypes.c_void_p]  # type: ignore[attr-defined]
    run.restype = None  # type: ignore[attr-defined]
    return run


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
