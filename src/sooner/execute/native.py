"""The native executor: element rules written out as one C loop over the list of tensors, compiled and kept on disk.

It takes the same steps as the eager executor, to the last bit where only + - * / and roots are used.
"""

from __future__ import annotations

import ctypes
import functools
import operator
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sooner.execute.c_source import flat_names, row_value_names, write_source
from sooner.execute.cohort import Work
from sooner.execute.compiler import compiler, load
from sooner.execute.decide import RowSums
from sooner.execute.eager import run_eager
from sooner.execute.expression import Program
from sooner.execute.fused import run_fused
from sooner.execute.trace import Stretch

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
    """A stretch as one C loop."""

    _kernel: Kernel

    def compile(self) -> None:
        """Compile the traced program, or find it in the cache."""
        cohort = self.work.cohort
        dtypes = (cohort.params[0].dtype, self.work.gradients[0].dtype, cohort.dtype)
        self._kernel = _compiled(self.program.key(), *(str(d).removeprefix("torch.") for d in dtypes))

    def run(self) -> list[RowSums]:
        """Run the loop where parameters and gradients are."""
        cohort, program = self.work.cohort, self.program
        layout = cohort.layout(self.by_rows)
        parameters = cohort.tensors()
        gradients, copies = _dense(self.work.gradients), _contiguous(parameters)
        threads = max(1, min(torch.get_num_threads(), cohort.offsets[-1] // ELEMENTS_PER_THREAD))
        flats = [cohort.update if n == "update" else cohort.state[n] for n in flat_names(program)]
        sums = torch.zeros(len(program.sums), layout.total_rows, dtype=torch.float64)
        values = [self.for_rows(self.row_numbers[i]) for i in range(len(row_value_names(program)))]
        arguments = (
            *(layout.offsets, layout.rows, layout.first_row),
            *(_addresses(copies), _addresses(gradients), _addresses(flats), _addresses(values)),
            array("d", map(float, program.numbers)),
        )
        addresses = (one.buffer_info()[0] for one in arguments)
        self._kernel(len(cohort.params), *addresses, self.work.salt or 0, threads, sums.data_ptr())
        if "theta" in program.outputs and copies is not parameters:
            torch._foreach_copy_(parameters, copies)
        return [tuple(s[a:b].view(n, -1) for s in sums) for a, b, n in layout.buckets]


@functools.lru_cache(maxsize=256)
def _compiled(key: tuple[Any, ...], theta: str, gradient: str, state: str) -> Kernel:
    run: Kernel = load(write_source(Program.from_key(key), theta, gradient, state)).run
    run.argtypes = [ctypes.c_long, *[ctypes.c_void_p] * 8, ctypes.c_uint32, ctypes.c_int, ctypes.c_void_p]  # type: ignore[attr-defined]
    run.restype = None  # type: ignore[attr-defined]
    return run


def _contiguous(parameters: list[Tensor]) -> list[Tensor]:
    """Return the list itself, or one with copies of those that are not contiguous."""
    if all(map(Tensor.is_contiguous, parameters)):
        return parameters
    return [p.detach().contiguous() for p in parameters]


def _dense(tensors: list[Tensor]) -> list[Tensor]:
    """Return the list itself, or one with copies of those that are not contiguous or not of the first one's dtype."""
    if all(map(Tensor.is_contiguous, tensors)) and len(set(map(_dtype, tensors))) == 1:
        return tensors
    return [t.detach().to(tensors[0].dtype).contiguous() for t in tensors]


_dtype = operator.attrgetter("dtype")


def _addresses(tensors: list[Tensor]) -> array[int]:
    return array("Q", map(Tensor.data_ptr, tensors))
