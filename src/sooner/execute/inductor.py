"""The inductor executor: stretches of a chain compiled by `torch.compile`, for accelerators.

The traced program is played back on flat vectors, one graph for all parameters. Its numbers are one small tensor, so a
schedule of learning rates compiles nothing again.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sooner.execute.c_source import row_value_names, vector_names
from sooner.execute.decide import RowSums, sum_dtype
from sooner.execute.eager import of_parameters
from sooner.execute.expression import Operand, Program
from sooner.execute.fused import run_fused
from sooner.execute.trace import Stretch
from sooner.execute.work import Work

log = logging.getLogger(__name__)

BACKEND = "inductor"
"""What `torch.compile` is asked for."""


def run_inductor(work: Sequence[Work]) -> None:
    """Take one step for every cohort, as `run_eager`, on any device that `torch.compile` knows."""
    for one in work:
        one.count_here()
    if work:
        run_fused(work, InductorStretch)


class InductorStretch(Stretch):
    """A stretch as one graph over flat vectors."""

    moves_parameters = False
    takes_all = False
    _played: Callable[..., list[Tensor]]

    def compile(self) -> None:
        """Have the graph's function; `torch.compile` compiles it when it first runs."""
        self._played = _compiled(self.program.key(), BACKEND)

    @classmethod
    def run_all(cls, stretches: Sequence[Stretch]) -> list[list[RowSums]]:
        """Play the programs back on the chunks' flat vectors."""
        found = []
        for s in stretches:
            assert isinstance(s, InductorStretch)
            found.append(s._run())
            s.launched()
        return found

    def _run(self) -> list[RowSums]:
        work, chunk, program = self.work, self.chunk, self.program
        vectors: dict[str, Tensor] = {}
        for name in vector_names(program):
            if name == "gradient":
                vectors[name] = chunk.flat(work.gradients).to(work.cohort.dtype)
            elif name == "theta":
                vectors[name] = of_parameters(work, chunk)
            elif name == "update":
                vectors[name] = self.place()
            elif name == "into":
                vectors[name] = torch.empty(chunk.length, dtype=work.cohort.dtype, device=work.cohort.device)
            else:
                vectors[name] = chunk.state(name)
        before = {name: vectors[name] for name in program.outputs}
        values = [self._for_elements(of_buckets) for of_buckets in self.row_numbers]
        with _torch_folder_quoted():
            added = self._played(list(vectors.values()), values, _as_tensor(program.numbers, vectors))
        for name in program.outputs:
            if name == "into":
                torch._foreach_copy_(chunk.of(work.into or []), chunk.split(before[name], work.cohort.pieces))
            elif name != "update" and chunk.last - chunk.first > 1:
                chunk.write(name, before[name])
        return [tuple(bucket.rowed(one).sum(1, dtype=sum_dtype(one.device)).view(bucket.count, -1) for one in added)
                for bucket in chunk.buckets]  # fmt: skip

    def _for_elements(self, of_buckets: list[Tensor]) -> Tensor:
        """Return the value of its row for every element of the cohort."""
        buckets = self.chunk.buckets
        every = [
            n.expand(bucket.count, bucket.rows[0]).unsqueeze(2).expand(bucket.count, *bucket.rows).reshape(-1)
            for n, bucket in zip(of_buckets, buckets, strict=True)
        ]
        return torch.cat(every)


def _as_tensor(numbers: Sequence[float | Tensor], vectors: Mapping[str, Tensor]) -> Tensor:
    """Return the numbers as a vector on the parameters' device, without waiting for those that are there already."""
    like = next(iter(vectors.values()))
    plain = torch.tensor([0.0 if isinstance(n, Tensor) else n for n in numbers], dtype=like.dtype)
    moved = plain.to(like.device, non_blocking=True)
    for i, number in enumerate(numbers):
        if isinstance(number, Tensor):
            moved[i] = number
    return moved


@contextlib.contextmanager
def _torch_folder_quoted() -> Iterator[None]:
    """Let torch.compile link where torch is in a folder with a space: torch 2.13 leaves it unquoted in the command."""
    from torch.utils import cpp_extension

    folder = cpp_extension.TORCH_LIB_PATH
    quoted = shlex.quote(folder)
    if quoted == folder or folder.startswith("'"):
        yield
        return
    cpp_extension.TORCH_LIB_PATH = quoted
    try:
        yield
    finally:
        cpp_extension.TORCH_LIB_PATH = folder


@functools.lru_cache(maxsize=256)
def _compiled(key: tuple[Any, ...], backend: str) -> Callable[..., list[Tensor]]:
    found: dict[str, Any] = {}
    exec(write_python(Program.from_key(key)), {"torch": torch}, found)  # a code object of its own, with its own graph
    plain: Callable[..., list[Tensor]] = found["played"]
    compiled = torch.compile(plain, backend=backend, dynamic=True, fullgraph=True)

    def played(vectors: list[Tensor], values: list[Tensor], numbers: Tensor) -> list[Tensor]:
        try:
            return compiled(vectors, values, numbers)
        except Exception as error:  # that of torch.compile has no public name
            if type(error).__name__ != "FailOnRecompileLimitHit":
                raise
            log.info("a step runs uncompiled, because torch.compile has met too many layouts of it")
            return plain(vectors, values, numbers)

    return played


def write_python(program: Program) -> str:
    """Return the source of ``played(vectors, row_values, numbers)``.

    It changes the vectors that the program writes (flat, ``[D]``) in place and returns those it adds up.
    """
    names, rowed = vector_names(program), row_value_names(program)

    def operand(one: Operand) -> str:
        kind, number = one
        if kind != "in":
            return f"{ {'number': 'n', 'line': 't'}[kind] }{number}"
        name = program.inputs[number]
        return f"w{rowed.index(name)}" if name in rowed else f"v{names.index(name)}"

    lines = ["def played(vectors, row_values, numbers):"]
    for sequence, letter, count in (
        ("vectors", "v", len(names)),
        ("row_values", "w", len(rowed)),
        ("numbers", "n", len(program.numbers)),
    ):
        lines += [f"    {letter}{i} = {sequence}[{i}]" for i in range(count)]
    for i, (operation, *operands) in enumerate(program.lines):
        arguments = [operand(one) for one in operands]
        if operation == "where":
            arguments[0] += " != 0"
        lines.append(f"    t{i} = torch.{operation}({', '.join(arguments)}).to(numbers.dtype)")
    lines += [f"    r{i} = {operand(one)}" for i, one in enumerate(program.outputs.values())]
    lines += [f"    v{names.index(name)}.copy_(r{i})" for i, name in enumerate(program.outputs)]
    return "\n".join([*lines, f"    return [{', '.join(operand(one) + ' + 0' for one in program.sums)}]"])
