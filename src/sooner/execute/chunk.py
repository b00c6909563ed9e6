"""A chunk: some parameters of a cohort, or a piece of one, as executors work on them at a time.

Executors that need one vector make it of a few parameters at a time; those that compile loops see every parameter cut
into rows.
"""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sooner.execute.shards import Spread


@dataclass(frozen=True)
class Bucket:
    """The `count` parameters of one `shape` that lie next to each other in a chunk, from its number `first` on.

    Attributes:
        shape: of the piece of a parameter that this process has.
        whole: of the whole parameter; the same where parameters are not sharded.
        start, stop: where they lie in a flat vector of all elements of the chunk.
        slots: where their state lies in the flat vector of each slot, ``(start, stop, shape)``.
    """

    first: int
    count: int
    shape: tuple[int, ...]
    whole: tuple[int, ...]
    start: int
    stop: int
    slots: Mapping[str, tuple[int, int, tuple[int, ...]]]

    @property
    def rows(self) -> tuple[int, int]:
        """Number and length of a parameter's rows; with fewer than two dimensions it is a single row."""
        height = self.shape[0] if len(self.shape) > 1 else 1
        return height, math.prod(self.shape) // height if height else math.prod(self.shape[1:])

    def stack(self, flat: Tensor) -> Tensor:
        """Return the parameters of the bucket as one view ``[count, *shape]`` of a flat vector of all elements."""
        return flat[self.start : self.stop].view(self.count, *self.shape)

    def rowed(self, flat: Tensor) -> Tensor:
        """Return the same elements as ``[count * rows, length]``."""
        height, length = self.rows
        return flat[self.start : self.stop].view(self.count * height, length)

    def kept(self, slot: str, flat: Tensor) -> Tensor:
        """Return the bucket's state as one view ``[count, *shape of the slot]`` of the slot's flat vector."""
        start, stop, shape = self.slots[slot]
        return flat[start:stop].view(self.count, *shape)


@dataclass(frozen=True)
class Rows:
    """How compiled loops see a chunk: every parameter cut into rows, all rows numbered through.

    Attributes:
        offsets, rows, first_row: one entry per parameter (offsets has one more), as C reads them.
        sets: the number of each parameter's band among those of the chunk.
        zeros: as many zeros as there are parameters.
        total_rows: number of rows of all parameters.
        buckets: for each bucket its rows ``[start, stop)`` and the number of parameters.
    """

    offsets: array[int]
    rows: array[int]
    first_row: array[int]
    sets: array[int]
    zeros: array[int]
    total_rows: int
    buckets: list[tuple[int, int, int]]


@dataclass
class Band:
    """Parameters of a cohort, from number `first` to before `last`, whose step count and learning rate are the same."""

    first: int
    last: int
    steps: int
    rate: int


class Members(Protocol):
    """What a chunk knows of the parameters that it is cut from, which is what `Cohort` has; see there."""

    params: list[Tensor]
    pieces: list[Tensor]
    spread: Spread | None
    dtype: torch.dtype
    device: torch.device
    slots: tuple[str, ...]
    shapes: list[dict[str, tuple[int, ...]]]
    state: dict[str, list[Tensor]]
    numbers: dict[str, Tensor]
    shared: MutableMapping[str, Tensor]
    packed: frozenset[str]
    offsets: list[int]
    bands: list[Band]

    def read(self, slot: str, chunk: Chunk) -> Tensor:
        """Return state in few bits as one vector of a chunk."""

    def store(self, slot: str, chunk: Chunk, values: Tensor) -> None:
        """Keep one vector of a chunk in few bits."""


class Chunk:
    """Parameters of a cohort that are worked on at a time, or a piece of one parameter.

    Args:
        cohort: the cohort.
        first, last: numbers of its parameters, ``[first, last)``.
        bands: numbers of the cohort's bands that the parameters belong to.
        piece: the elements of a single parameter, ``[start, stop)``; None for all. Only for rules that work by element.

    Attributes:
        start: number of the chunk's first element among those of the cohort.
        length: number of its elements.
        buckets: the parameters by shape; none for a piece.
    """

    def __init__(
        self, cohort: Members, first: int, last: int, bands: range, piece: tuple[int, int] | None = None
    ) -> None:
        self.cohort, self.bands = cohort, bands
        self.first, self.last, self.piece = first, last, piece
        begin, end = cohort.offsets[first], cohort.offsets[last]
        self.start = begin + piece[0] if piece else begin
        self.length = piece[1] - piece[0] if piece else end - begin
        self.offsets = [one - begin for one in cohort.offsets[first : last + 1]]
        self.buckets: list[Bucket] = [] if piece else list(self._make_buckets())
        self._rows: dict[bool, Rows] = {}

    def _make_buckets(self) -> Iterator[Bucket]:
        cohort, first = self.cohort, 0
        of_slots = dict.fromkeys(cohort.slots, 0)
        for whole, same in itertools.groupby(cohort.params[self.first : self.last], key=lambda p: tuple(p.shape)):
            count = len(list(same))
            shapes = cohort.shapes[self.first + first]
            slots = {}
            for slot, start in of_slots.items():
                of_slots[slot] = start + count * math.prod(shapes[slot])
                slots[slot] = start, of_slots[slot], shapes[slot]
            shape = tuple(cohort.pieces[self.first + first].shape)
            yield Bucket(first, count, shape, whole, self.offsets[first], self.offsets[first + count], slots)
            first += count

    @property
    def spans(self) -> list[int]:
        """How many of the chunk's parameters are in each of its bands."""
        bands = [self.cohort.bands[i] for i in self.bands]
        return [min(band.last, self.last) - max(band.first, self.first) for band in bands]

    def rows(self, by_rows: bool) -> Rows:
        """Return the chunk as compiled loops see it, with the rows of weights or each parameter as one row."""
        if by_rows not in self._rows:
            heights = [bucket.rows[0] if by_rows else 1 for bucket in self.buckets]
            rows = [height for bucket, height in zip(self.buckets, heights, strict=True) for _ in range(bucket.count)]
            starts = [0, *itertools.accumulate(rows)]
            self._rows[by_rows] = Rows(
                array("q", self.offsets),
                array("q", rows),
                array("q", starts[:-1]),
                array("q", [i for i, span in enumerate(self.spans) for _ in range(span)]),
                array("q", bytes(8 * len(rows))),
                starts[-1],
                [(starts[b.first], starts[b.first + b.count], b.count) for b in self.buckets],
            )
        return self._rows[by_rows]

    def of(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the chunk's own of one tensor per parameter of the cohort; for a piece a flat view of that piece."""
        if self.piece:
            return [tensors[self.first].view(-1)[slice(*self.piece)]]
        return list(tensors[self.first : self.last])

    def flat(self, tensors: list[Tensor]) -> Tensor:
        """Return one tensor per parameter of the cohort as one vector ``[d]``, a view where one will do."""
        if self.piece:
            return tensors[self.first].reshape(-1)[slice(*self.piece)]
        own = tensors[self.first : self.last]
        return own[0].reshape(-1) if len(own) == 1 else torch._C._nn.flatten_dense_tensors(own)

    def cut_from(self, flat: Tensor) -> Tensor:
        """Return the chunk's own part of a vector of all elements of the cohort."""
        return flat[self.start : self.start + self.length]

    def split(self, flat: Tensor, like: list[Tensor]) -> list[Tensor]:
        """Return a vector of the chunk as views shaped as the chunk's own of one tensor per parameter of the cohort."""
        if self.piece:
            return [flat]
        own = like[self.first : self.last]
        return [flat.view(own[0].shape)] if len(own) == 1 else list(torch._C._nn.unflatten_dense_tensors(flat, own))

    def state(self, slot: str) -> Tensor:
        """Return the state of a slot as one vector: a view of a single tensor or of numbers, else a copy."""
        if slot in self.cohort.packed:
            return self.cohort.read(slot, self)
        if slot in self.cohort.numbers:
            return self.cohort.numbers[slot][self.first : self.last]
        return self.flat(self.cohort.state[slot])

    def lends(self, slot: str) -> bool:
        """Whether `state` returns the memory of the state itself."""
        return slot in self.cohort.numbers or (self.last - self.first == 1 and slot not in self.cohort.packed)

    def keep(self, slot: str, before: Tensor, after: Tensor) -> None:
        """Put new values of a slot, one vector, where its state is; `before` is what `state` returned."""
        if after is before:
            return
        if self.lends(slot):
            before.copy_(after)
        else:
            self.write(slot, after)

    def write(self, slot: str, values: Tensor) -> None:
        """Copy a vector into the state tensors of a slot."""
        if slot in self.cohort.packed:
            self.cohort.store(slot, self, values)
            return
        torch._foreach_copy_(self.of(self.cohort.state[slot]), self.split(values, self.cohort.state[slot]))
