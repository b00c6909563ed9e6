"""The triton executor: element rules as Triton kernels over lists of tensors, for GPUs.

Parameters, gradients and state stay where they are; one launch serves all tensors of one program, whatever their
number, learning rates and step counts. The host waits for nothing: tables that tell the kernel what is where go to the
device once, and again when they change.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import itertools
import linecache
import logging
import os
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sooner.execute.c_source import row_value_names, vector_names
from sooner.execute.compiler import NoCompilerError
from sooner.execute.counted import Counted
from sooner.execute.decide import RowSums
from sooner.execute.expression import Program
from sooner.execute.fused import run_fused
from sooner.execute.inductor import run_inductor
from sooner.execute.native import NativeStretch, repeat
from sooner.execute.tables import BLOCK, Tables
from sooner.execute.trial import agrees
from sooner.execute.triton_source import write_kernel
from sooner.execute.work import Work
from sooner.transform import Clock

THREADS_EACH = 8
"""Elements for every thread of a block: with 16-bit numbers, as many as one load of 16 bytes brings."""

KEPT = 64
"""So many launches of a cohort have their tables on the device at a time."""

log = logging.getLogger(__name__)

_numbered = itertools.count()


def interpreted() -> bool:
    """Whether Triton is told to run its kernels on the CPU, statement by statement (``$TRITON_INTERPRET``)."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@functools.cache
def installed() -> bool:
    """Whether Triton can be imported."""
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        importlib.import_module("triton.language")
    except Exception:  # a wheel for another machine
        log.info("triton is installed, but can't be imported", exc_info=True)
        return False
    return True


def serves(device: torch.device) -> bool:
    """Whether Triton runs kernels on this device."""
    return device.type == ("cpu" if interpreted() else "cuda") and installed()


def run_triton(work: Sequence[Work]) -> None:
    """Take one step for every cohort, as `run_eager`; with `run_inductor` where Triton does not run."""
    if not all(serves(w.cohort.device) for w in work):
        run_inductor(work)
        return
    for one in work:
        _count(one)
    if work and not repeat(work, TritonStretch):
        run_fused(work, TritonStretch)


def _count(work: Work) -> None:
    """Have steps counted on the device if the learning rate is there too and the chain goes by nothing else."""
    cohort, rate = work.cohort, work.clock.learning_rate
    if not isinstance(rate, Tensor) or rate.device != cohort.device or work.rates is None or cohort.packed:
        work.count_here()
        return
    if cohort.counts_there or work.into is not None or any(rule.grain != "element" for rule in work.chain.rules):
        return
    least = min(band.steps for band in cohort.bands)
    if least & (least - 1):  # what does not work is tried again at powers of two
        return
    trial = TritonStretch(work, cohort.whole, None, None)
    ones = torch.ones(len(cohort.bands), dtype=torch.float64, device=cohort.device)
    trial.clock = Clock(Counted(ones, least), rate)  # type: ignore[arg-type]
    try:
        trial.trace(0, len(work.chain.rules))
        trial.compile()
    except (TypeError, ValueError, ArithmeticError, RuntimeError):  # it decides by the count, or needs it as a number
        return
    cohort.count_there()


class TritonStretch(NativeStretch):
    """A stretch as one kernel, together with all others that run the same program on the same device."""

    def compile(self) -> None:
        """Compile the traced program, or find it in the cache.

        Raises:
            NoCompilerError: Triton can't compile it.
        """
        found = _compiled(self.program.key(), *self.dtypes(), self.work.cohort.device, interpreted())
        if isinstance(found, str):
            raise NoCompilerError(found)
        self.kernel = found

    @classmethod
    def run_together(cls, stretches: Sequence[NativeStretch]) -> list[list[RowSums]]:
        """Run one program over all parameters of all these stretches, in one launch, waiting for nothing."""
        program, kernel = stretches[0].program, stretches[0].kernel
        cohort = stretches[0].work.cohort
        key = kernel, tuple((s.chunk, s.by_rows) for s in stretches)
        if key not in cohort.tables:
            if len(cohort.tables) >= KEPT:
                cohort.tables.clear()
            cohort.tables[key] = Tables(stretches)
        tables: Tables = cohort.tables[key]
        dense = [s.dense() for s in stretches]
        places = array("Q")
        for name in vector_names(program):
            for s, some in zip(stretches, dense, strict=True):
                places += s.addresses(name, some)
        sums = tables.sums(len(program.sums))
        values = [
            torch.cat([s.for_rows(s.row_numbers[i]) for s in stretches]) for i in range(len(row_value_names(program)))
        ]
        if tables.count:
            salts = tables.salts(stretches) if program.stochastic else tables.blocks
            given = (tables.places(places), tables.tensors, tables.blocks, tables.numbers(stretches), salts, sums)
            kernel(tables.count, *given, tables.count, *values, tables.block, tables.aligned(places))
        for s, copies in zip(stretches, dense, strict=True):
            s.moved(copies)
        return tables.by_bucket(sums)


@functools.lru_cache(maxsize=256)
def _compiled(
    key: tuple[Any, ...], theta: str, gradient: str, state: str, device: torch.device, interprets: bool
) -> Callable[..., None] | str:
    """Return what launches a program's kernel with so many blocks, or why it can't."""
    program = Program.from_key(key)
    segments = load(write_kernel(program, theta, gradient, state))
    guard = contextlib.nullcontext() if device.type == "cpu" else torch.cuda.device(device)

    def launch(count: int, *arguments: Any) -> None:
        *given, block, aligned = arguments
        warps = max(1, block // (32 * THREADS_EACH))
        with guard:
            segments[(count,)](*given, BLOCK=block, ALIGNED=aligned, num_warps=warps, enable_fp_fusion=False)

    if interprets:
        return launch
    try:
        if agrees(program, launch, (theta, gradient, state), device, BLOCK):
            return launch
        why = "the kernel computes other numbers than PyTorch on this device; please report it"
    except Exception as error:  # of Triton, of its assembler, or no C compiler for what calls the kernel
        why = str(error) or type(error).__name__  # an error that is kept would keep tensors
    log.warning("triton can't compile a step, which runs eagerly, several times slower: %s", why)
    return why


def load(source: str) -> Any:
    """Return the kernel ``segments`` of a source, compiled when it is first launched."""
    name = f"<sooner kernel {next(_numbered)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)  # where Triton reads it
    found: dict[str, Any] = {"__name__": f"sooner.execute.kernels.{name}"}
    exec(compile(source, name, "exec"), found)
    return found["segments"]
