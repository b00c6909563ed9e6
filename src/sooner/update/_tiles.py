"""Weight matrices cut into tiles, each with state of its own for its rows and for its columns.

A tile is a matrix that a method with two-sided preconditioners sees alone: a whole matrix, a piece of a fused one, or
one of the blocks into which long sides are cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sooner.transform import State
from sooner.update._form import Form

Side = Literal["rows", "columns"]

OnTile = Callable[[Tensor, dict[str, Tensor]], tuple[Tensor, dict[str, Tensor]]]
"""From tiles ``[m, rows, columns]`` of one size and their state to as many of that size and the new state."""


@dataclass(frozen=True)
class Kept:
    """State of one side of every tile: a matrix ``[side, side]``, or a vector where it is not square."""

    side: Side
    square: bool = True


@dataclass(frozen=True)
class Grid:
    """Tiles of one size, ``rows`` by ``columns`` each, next to each other: `down` times `across`, from a first one."""

    row: int
    down: int
    rows: int
    column: int
    across: int
    columns: int

    def of(self, matrices: Tensor) -> Tensor:
        """Return the tiles as a view ``[m, down, across, rows, columns]`` of matrices ``[m, rows, columns]``."""
        some = matrices.narrow(1, self.row, self.down * self.rows).narrow(2, self.column, self.across * self.columns)
        across = torch.unflatten(some, 2, (self.across, self.columns))
        return torch.unflatten(across, 1, (self.down, self.rows)).transpose(2, 3)


@dataclass(frozen=True)
class Tiling:
    """How weights of a form are cut.

    Attributes:
        form: the form.
        block: length of the longest side of a tile; None for whole matrices or pieces.
        longest: a longer side of a tile has no state: its vectors and matrices are empty.
    """

    form: Form
    block: int | None
    longest: int

    def grids(self, shape: Sequence[int]) -> list[Grid]:
        """Return the tiles of a weight of this shape; the same for each of the matrices that it stacks."""
        columns = list(_lengths(0, self.form.size(shape)[2], self.block))
        rows = [
            one
            for first, count, height in self.form.runs(shape)
            for one in (
                [(first, count, height)]
                if self.block is None or height <= self.block
                else (one for i in range(count) for one in _lengths(first + i * height, height, self.block))
            )
        ]
        return [Grid(*down, *across) for down in rows for across in columns]

    def slot_shape(self, kept: Kept, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of a slot: per matrix that of its one tile, else all tiles behind each other in a vector."""
        grids = self.grids(shape)
        if not self._whole(grids):
            return (sum(self._numbers(kept, grid, shape) for grid in grids),)
        own = self._size(kept, grids[0])
        return (*shape[:-2], *own) if self.form.stacked else own

    def each(self, stack: Tensor, state: State, kept: Mapping[str, Kept], function: OnTile) -> tuple[Tensor, State]:
        """Replace every tile of a stack of same-shaped weights ``[n, *shape]``, and its state.

        Args:
            stack: the weights, or what is to become of them.
            state: what is named in `kept`, and other tensors, which are shaped like the weights.
            kept: state of sides.
            function: what becomes of tiles of one size.
        """
        shape = tuple(stack.shape[1:])
        grids, form = self.grids(shape), self.form
        alike = [slot for slot in state if slot not in kept]
        given = form.matrices(stack)
        matrices = {slot: form.matrices(state[slot]) for slot in alike}
        if self._whole(grids):
            own = {slot: state[slot].reshape(len(given), *self._size(one, grids[0])) for slot, one in kept.items()}
            done, after = function(given, matrices | own)
            turned = {slot: form.stored(after[slot], stack) for slot in alike}
            return form.stored(done, stack), turned | {slot: after[slot].view_as(state[slot]) for slot in kept}
        result = torch.empty_like(given, memory_format=torch.contiguous_format)
        results = {slot: torch.empty_like(result) for slot in alike}
        behind: dict[str, list[Tensor]] = {slot: [] for slot in kept}
        start = dict.fromkeys(kept, 0)
        for grid in grids:
            tiles = _flat(grid.of(given))
            before = {slot: _flat(grid.of(one)) for slot, one in matrices.items()}
            for slot, one in kept.items():
                first, start[slot] = start[slot], start[slot] + self._numbers(one, grid, shape)
                before[slot] = state[slot][:, first : start[slot]].reshape(len(tiles), *self._size(one, grid))
            done, after = function(tiles, before)
            for into, new in ((result, done), *((results[slot], after[slot]) for slot in alike)):
                part = grid.of(into)
                part.copy_(new.view(part.shape))
            for slot, one in kept.items():
                behind[slot].append(after[slot].reshape(len(stack), self._numbers(one, grid, shape)))
        turned = {slot: form.stored(one, stack) for slot, one in results.items()}
        return form.stored(result, stack), turned | {slot: torch.cat(parts, 1) for slot, parts in behind.items()}

    def told(self, shape: Sequence[int]) -> str:
        """Say how the weight is divided, and which sides have no state; empty for a plain matrix."""
        grids = self.grids(shape)
        words = [self.form.told(shape)] if self.form.told(shape) else []
        tiles = sum(grid.down * grid.across for grid in grids)
        if tiles > max(1, len(self.form.pieces)):
            words.append(f"{tiles} blocks")
        for side in ("rows", "columns"):
            if all(getattr(grid, side) > self.longest for grid in grids):
                words.append(f"{side} as they are")
        return ", ".join(words)

    def _whole(self, grids: Sequence[Grid]) -> bool:
        return len(grids) == 1 and grids[0].down == grids[0].across == 1

    def _size(self, kept: Kept, grid: Grid) -> tuple[int, ...]:
        length = grid.rows if kept.side == "rows" else grid.columns
        length = 0 if length > self.longest else length
        return (length, length) if kept.square else (length,)

    def _numbers(self, kept: Kept, grid: Grid, shape: Sequence[int]) -> int:
        return self.form.size(shape)[0] * grid.down * grid.across * math.prod(self._size(kept, grid))


def _lengths(first: int, length: int, block: int | None) -> Iterator[tuple[int, int, int]]:
    """Yield where equal parts of a side begin, how many they are and how long; the last part may be shorter."""
    if block is None or length <= block:
        yield first, 1, length
        return
    many, rest = divmod(length, block)
    yield first, many, block
    if rest:
        yield first + many * block, 1, rest


def _flat(tiles: Tensor) -> Tensor:
    return tiles.reshape(-1, *tiles.shape[-2:])
