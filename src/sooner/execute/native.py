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
from typing import Any

import torch
from torch import Tensor

from sooner.execute.c_source import C_TYPES, row_value_names, vector_names, write_source
from sooner.execute.cohort import Cohort, plain, shared_memory
from sooner.execute.compiler import compiler, load
from sooner.execute.decide import RowSums
from sooner.execute.eager import run_eager
from sooner.execute.expression import Program
from sooner.execute.fused import run_fused
from sooner.execute.rates import Rates
from sooner.execute.trace import Stretch
from sooner.execute.work import Work

ELEMENTS_PER_THREAD = 32_768
"""With fewer elements for each, a further thread costs more than it brings (see benchmarks/update_step.py)."""

Kernel = Callable[..., None]


def run_native(work: Sequence[Work]) -> None:
    """Take one step for every cohort, as `run_eager`, which also serves parameters that are not on the CPU."""
    if not work or compiler() is None or any(w.cohort.device.type != "cpu" for w in work):
        run_eager(work)
    else:
        run_fused(work, NativeStretch)


class NativeStretch(Stretch):
    """A stretch as one C loop, together with all others that run the same program."""

    _kernel: Kernel
    gradients: list[Tensor]

    def compile(self) -> None:
        """Compile the traced program, or find it in the cache."""
        cohort = self.work.cohort
        gradient = cohort.dtype
        if "gradient" in self.program.inputs:
            self.gradients, gradient = self._dense(self.chunk.of(self.work.gradients))
        dtypes = (cohort.params[0].dtype, gradient, cohort.dtype)
        self._kernel = _compiled(self.program.key(), *(str(d).removeprefix("torch.") for d in dtypes))

    def _dense(self, gradients: list[Tensor]) -> tuple[list[Tensor], torch.dtype]:
        """Return gradients that are contiguous and of one dtype, and this dtype."""
        cohort = self.work.cohort
        dtype = gradients[0].dtype
        if not cohort.plain_gradients or str(dtype).removeprefix("torch.") not in C_TYPES:
            kinds = {g.dtype for g in gradients}
            if len(kinds) > 1 or str(dtype).removeprefix("torch.") not in C_TYPES:
                dtype = cohort.dtype
            gradients = [g.detach().resolve_neg().to(dtype).contiguous() for g in gradients]
        return gradients, dtype

    @classmethod
    def run_all(cls, stretches: Sequence[Stretch]) -> list[list[RowSums]]:
        """Run the traced programs where parameters, gradients and state are, each program once for all it serves."""
        alike: dict[int, list[NativeStretch]] = {}
        for s in stretches:
            assert isinstance(s, NativeStretch)
            alike.setdefault(id(s._kernel), []).append(s)
        found = {id(s): sums for some in alike.values() for s, sums in zip(some, _run(some), strict=True)}
        for s in stretches:
            s.launched()
        return [found[id(s)] for s in stretches]

    def addresses(self, name: str, parameters: Sequence[Tensor]) -> list[int]:
        """Return where the tensors of a vector of the program begin, one per parameter."""
        cohort, chunk = self.work.cohort, self.chunk
        if name in cohort.addresses and (name != "theta" or cohort.plain_parameters):
            return cohort.addresses[name][chunk.first : chunk.last]
        if name == "theta":
            return _addresses(parameters)
        if name == "gradient":
            return _addresses(self.gradients)
        if name == "into":
            return _addresses(chunk.of(self.work.into or []))
        if name == "update":
            base, size = self.place().data_ptr(), cohort.dtype.itemsize
            return [base + size * offset for offset in chunk.offsets[:-1]]
        return _addresses(chunk.of(cohort.state[name]))


def _run(stretches: Sequence[NativeStretch]) -> list[list[RowSums]]:
    """Run one program over all parameters of all these stretches, in one loop."""
    if len({id(s.work.cohort) for s in stretches}) > 1 and shared_memory(
        [p.data_ptr() for s in stretches for p in s.chunk.of(s.work.cohort.pieces)]
    ):
        return [sums for s in stretches for sums in _run([s])]  # one after the other, each with what the last one left
    program = stretches[0].program
    rows = [s.chunk.rows(s.by_rows) for s in stretches]
    counts = [len(r.rows) for r in rows]
    parameters = [s.chunk.of(s.work.cohort.pieces) for s in stretches]
    dense = [_contiguous(some, s.work.cohort) for s, some in zip(stretches, parameters, strict=True)]
    names = vector_names(program)
    found: list[int] = []
    for name in names:
        for s, some in zip(stretches, dense, strict=True):
            found += s.addresses(name, some)
    vectors = array("Q", found)
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
    threads = max(1, min(torch.get_num_threads(), offsets[-1] // ELEMENTS_PER_THREAD))
    arguments = (offsets, heights, first_rows, sets, vectors, array("Q", _addresses(values)), numbers, noise)
    addresses = [one.buffer_info()[0] for one in arguments]
    stretches[0]._kernel(sum(counts), *addresses, threads, None if sums is None else sums.data_ptr())
    written = [p for some in parameters for p in some] if "theta" in program.outputs else []
    if written:
        for some, copies in zip(parameters, dense, strict=True):
            if copies is not some:
                torch._foreach_copy_(some, copies)
        torch.autograd.graph.increment_version(written)  # so that autograd notices, as with operations of torch
    if sums is None:
        return [[() for _ in r.buckets] for r in rows]
    firsts = [0, *itertools.accumulate(r.total_rows for r in rows)]
    return [
        [tuple(s[first + a : first + b].view(n, -1) for s in sums) for a, b, n in r.buckets]
        for first, r in zip(firsts, rows, strict=False)
    ]


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


def _contiguous(parameters: list[Tensor], cohort: Cohort) -> list[Tensor]:
    """Return the list itself, or one with copies of those that are not laid out plainly."""
    if cohort.plain_parameters:
        return parameters
    return [p if plain(p) else p.detach().resolve_neg().contiguous() for p in parameters]


def _addresses(tensors: Sequence[Tensor]) -> list[int]:
    return list(map(Tensor.data_ptr, tensors))
