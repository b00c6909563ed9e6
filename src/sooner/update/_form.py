"""How a stored weight is one matrix or several: stacks of experts, weights stored [in, out], fused projections."""

from __future__ import annotations

import fnmatch
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sooner.error import SoonerError
from sooner.kinds import Role

Pieces = int | Sequence[int]
Split = Mapping[str, Pieces] | Pieces
"""Into how many pieces, or into pieces of how many rows; for all matrices, or by name pattern."""


@dataclass(frozen=True)
class Form:
    """How a weight holds matrices ``[rows, columns]``, rows being the outputs of the layer.

    Attributes:
        stacked: the weight is a stack ``[..., rows, columns]``; otherwise it is one matrix ``[rows, *columns]``.
        transposed: it is stored ``[columns, *rows]``.
        pieces: rows of every piece into which a matrix is cut; empty for whole matrices.
    """

    stacked: bool = False
    transposed: bool = False
    pieces: tuple[int, ...] = ()

    def size(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """Return how many matrices a weight of this shape holds before they are cut, their rows and their columns."""
        if self.stacked:
            count, rows, columns = math.prod(shape[:-2]), shape[-2], shape[-1]
        else:
            count, rows, columns = 1, shape[0], math.prod(shape[1:])
        return (count, columns, rows) if self.transposed else (count, rows, columns)

    def runs(self, shape: Sequence[int]) -> list[tuple[int, int, int]]:
        """Return pieces of one size that lie next to each other: first row, how many, rows of each."""
        rows = self.size(shape)[1]
        runs, start = [], 0
        for height, same in itertools.groupby(self.pieces or (rows,)):
            count = len(list(same))
            runs.append((start, count, height))
            start += count * height
        return runs

    def each(self, stack: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return a stack of weights ``[n, *shape]`` with every matrix replaced.

        Args:
            stack: same-shaped weights.
            function: from matrices ``[m, rows, columns]`` of one size to as many of that size.
        """
        matrices = self.matrices(stack)
        if not self.pieces:
            done = function(matrices)
        else:
            done = torch.empty_like(matrices, memory_format=torch.contiguous_format)
            for into, some in zip(self.cut(done, stack.shape[1:]), self.cut(matrices, stack.shape[1:]), strict=True):
                into.copy_(function(some.reshape(-1, *some.shape[2:])).view(into.shape))
        return self.stored(done, stack)

    def matrices(self, stack: Tensor) -> Tensor:
        """Return the matrices ``[m, rows, columns]`` of a stack of weights ``[n, *shape]``, sharing its memory."""
        shape = stack.shape[1:]
        flat = stack.reshape(-1, *shape[-2:]) if self.stacked else stack.flatten(2)
        return flat.mT if self.transposed else flat

    def stored(self, matrices: Tensor, like: Tensor) -> Tensor:
        """Return matrices ``[m, rows, columns]`` as a stack of weights is stored."""
        return (matrices.mT if self.transposed else matrices).reshape(like.shape)

    def cut(self, matrices: Tensor, shape: Sequence[int]) -> list[Tensor]:
        """Return views ``[m, pieces, rows, columns]`` of whole matrices ``[m, rows, columns]``, a view per run."""
        return [
            torch.unflatten(matrices.narrow(1, start, count * height), 1, (count, height))
            for start, count, height in self.runs(shape)
        ]

    def told(self, shape: Sequence[int]) -> str:
        """Say how the weight is divided; empty for a plain matrix."""
        count, rows, columns = self.size(shape)
        words = [f"{count} matrices {rows} x {columns}"] if self.stacked else []
        if self.pieces:
            alike = len(set(self.pieces)) == 1
            of = f"{self.pieces[0]} rows" if alike else f"{', '.join(map(str, self.pieces))} rows"
            words.append(f"{len(self.pieces)} pieces of {of}")
        words += ["stored [in, out]"] if self.transposed else []
        return ", ".join(words)


AS_STORED = Form()


def form_of(part: str, role: Role, shape: Sequence[int], split: Split | None, heads: Split | None) -> Form:
    """Return a matrix's form.

    Args:
        part: the optimizer, for messages.
        role: what the parameter is.
        shape: its shape.
        split, heads: as the optimizer takes them; heads cut the pieces once more.

    Raises:
        SoonerError: the pieces do not fit the rows, or two patterns that fit one name.
    """
    whole = Form(role.stacked, role.transposed)
    asked, of_heads = chosen(part, "split", split, role.name), chosen(part, "heads", heads, role.name)
    if asked is None and of_heads is None:
        return whole
    rows = whole.size(shape)[1]
    named = role.name or f"a weight of shape {tuple(shape)}"
    pieces = _cut(part, "split", 1 if asked is None else asked, rows, named)
    if of_heads is not None:
        counts = [of_heads] * len(pieces) if isinstance(of_heads, int) else list(of_heads)
        if len(counts) != len(pieces):
            raise SoonerError(
                f"{part}: heads={of_heads} are for {len(counts)} pieces, {named} is split into {len(pieces)}; "
                "give one number of heads per piece, or one for all"
            )
        pieces = [one for p, k in zip(pieces, counts, strict=True) for one in _cut(part, "heads", k, p, named)]
    return Form(whole.stacked, whole.transposed, tuple(pieces) if len(pieces) > 1 else ())


def _cut(part: str, argument: str, asked: Pieces, rows: int, named: str) -> list[int]:
    if isinstance(asked, int):
        if rows % asked == 0:
            return [rows // asked] * asked
        raise SoonerError(f"{part}: {argument}={asked} does not divide {rows} rows of {named}; give a divisor")
    if sum(asked) == rows:
        return list(asked)
    raise SoonerError(
        f"{part}: {argument}={tuple(asked)} adds up to {sum(asked)}, {named} has {rows} rows; give sizes of all of them"
    )


def chosen(part: str, argument: str, split: Split | None, name: str) -> Pieces | None:
    """Return what `split` or `heads` says of a parameter of this name; None where it says nothing.

    Raises:
        SoonerError: two patterns fit.
    """
    if not isinstance(split, Mapping):
        return split
    fitting = [pattern for pattern in split if fits(pattern, name)]
    if len(fitting) > 1:
        raise SoonerError(
            f"{part}: {argument} has two patterns for {name}, {fitting[0]!r} and {fitting[1]!r}; keep one"
        )
    return split[fitting[0]] if fitting else None


def fits(pattern: str, name: str) -> bool:
    """Whether a pattern is part of a name, or with ``*``, ``?`` or ``[`` fits all of it."""
    return fnmatch.fnmatchcase(name, pattern) if set(pattern) & set("*?[") else bool(name) and pattern in name


def check_split(part: str, argument: str, split: Any) -> None:
    """Refuse what is no way of splitting.

    Raises:
        SoonerError: neither a number of pieces, nor sizes, nor a mapping of patterns to these.
    """
    for one in split.values() if isinstance(split, Mapping) else [split]:
        counts = one if isinstance(one, list | tuple) and one else [one]
        if split is not None and not all(type(n) is int and n > 0 for n in counts):
            raise SoonerError(
                f"{part}: {argument}={split!r} is no way to split; give a number of pieces, a tuple of sizes, or "
                f"patterns of names with these, such as {argument}={{'qkv': 3}}"
            )
