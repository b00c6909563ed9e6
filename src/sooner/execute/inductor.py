"""The inductor executor: stretches of a chain compiled by `torch.compile`, for accelerators.

The traced program is played back on flat vectors, one graph for all parameters. Its numbers are one small tensor, so a
schedule of learning rates compiles nothing again.
"""

from __future__ import annotations

import contextlib
import functools
import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from sooner.execute.c_source import row_value_names, vector_names
from sooner.execute.cohort import Work
from sooner.execute.decide import RowSums, sum_dtype
from sooner.execute.expression import Operand, Program
from sooner.execute.fused import run_fused
from sooner.execute.trace import Stretch

BACKEND = "inductor"
"""What `torch.compile` is asked for."""


def run_inductor(work: Sequence[Work]) -> None:
    """Take one step for every cohort, as `run_eager`, on any device that `torch.compile` knows."""
    if work:
        run_fused(work, InductorStretch)


class InductorStretch(Stretch):
    """A stretch as one graph over flat vectors."""

    moves_parameters = False
    _played: Callable[..., list[Tensor]]

    def begin(self) -> None:
        """Start a trace that works on flat vectors only."""
        self.gather()
        super().begin()

    def compile(self) -> None:
        """Have the graph's function; `torch.compile` compiles it when it first runs."""
        self._played = _compiled(self.program.key(), BACKEND)

    def run(self) -> list[RowSums]:
        """Play the program back on the cohort's flat vectors."""
        cohort, program = self.work.cohort, self.program
        if "theta" in program.inputs:
            cohort.gather_parameters()
        flats = {**cohort.state, "update": cohort.update}
        vectors = [cohort.theta if name == "theta" else flats[name] for name in vector_names(program)]
        values = [self._for_elements(of_buckets) for of_buckets in self.row_numbers]
        with _torch_folder_quoted():
            added = self._played(vectors, values, _as_tensor(program.numbers, cohort.update))
        if self.over == "model":
            return [tuple(one.sum(dtype=sum_dtype(one.device)) for one in added)]
        return [
            tuple(one[b.start : b.stop].view(b.count, *b.rows).sum(2, dtype=sum_dtype(one.device)) for one in added)
            for b in cohort.buckets
        ]

    def _for_elements(self, of_buckets: list[Tensor]) -> Tensor:
        """Return the value of its row for every element of the cohort."""
        buckets = self.work.cohort.buckets
        every = [
            n.expand(bucket.count, bucket.rows[0]).unsqueeze(2).expand(bucket.count, *bucket.rows).reshape(-1)
            for n, bucket in zip(of_buckets, buckets, strict=True)
        ]
        return torch.cat(every)


def _as_tensor(numbers: Sequence[float | Tensor], like: Tensor) -> Tensor:
    """Return the numbers as a vector on the parameters' device, without waiting for those that are there already."""
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
    return torch.compile(found["played"], backend=backend, dynamic=True, fullgraph=True)


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
