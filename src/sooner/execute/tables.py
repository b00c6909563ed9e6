"""What a kernel over a list of tensors reads on the device: which block is where, addresses, numbers."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sooner.execute.counted import Counted, capturing, refuse_capture
from sooner.execute.decide import RowSums
from sooner.execute.native import NativeStretch
from sooner.execute.rates import Rates
from sooner.execute.rounding import salts_of
from sooner.execute.triton_source import FIELDS

BLOCK = 1024
"""Elements of a block at most."""

STRIDE = 16
"""Bytes at multiples of which tensors begin, and elements of which rows are multiples, where they are aligned."""


RECORDED: list[Tensor] = []
"""What graphs read that were captured in this process; it stays, for a graph may be replayed at any time."""


class Tables:
    """The tables of one launch; what stays the same from step to step goes to the device once.

    Args:
        stretches: whose parameters are launched together, always in this order.

    Attributes:
        count: number of blocks.
        block: elements of a block at most, a power of two.
        tensors: number of tensors of a vector.
        blocks: the table of blocks on the device.
    """

    def __init__(self, stretches: Sequence[NativeStretch]) -> None:
        self._device, self._dtype = stretches[0].work.cohort.device, stretches[0].work.cohort.dtype
        if capturing(self._device):
            raise refuse_capture()
        rows = [s.chunk.rows(s.by_rows) for s in stretches]
        heights = [np.array(one.rows, np.int64) for one in rows]
        sizes = [np.diff(np.array(one.offsets, np.int64)) for one in rows]
        lengths = [size // np.maximum(height, 1) for size, height in zip(sizes, heights, strict=True)]
        longest = max(int(one.max(initial=1)) for one in lengths)
        self.block = min(BLOCK, max(STRIDE, 1 << (longest - 1).bit_length()))
        self._even = all(not (n[h > 1] % STRIDE).any() for n, h in zip(lengths, heights, strict=True))
        self.tensors = sum(map(len, heights))
        tables: list[NDArray[np.int64]] = []
        self._buckets: list[list[tuple[int, int, int, int]]] = []
        tensor = row = numbers = count = 0
        for s, one, height, length in zip(stretches, rows, heights, lengths, strict=True):
            table = self._cut(height, length)
            of, starts = table[:, 0], table[:, 1]
            own = table[:, 3] + np.array(one.first_row, np.int64)[of]
            self._buckets.append(
                [(*(count + np.searchsorted(own, (a, b))).tolist(), b - a, n) for a, b, n in one.buckets]
            )
            noise = s.chunk.start + np.array(one.offsets, np.int64)[of] + starts
            sets = numbers + np.array(one.sets, np.int64)[of]
            tables.append(np.stack([of + tensor, starts, table[:, 2], own + row, sets, noise], 1))
            tensor, row, count = tensor + len(height), row + one.total_rows, count + len(table)
            numbers += len(s.chunk.bands)
        self.count = count
        self.blocks = torch.from_numpy(np.concatenate(tables)).to(self._device)
        assert self.blocks.shape == (count, len(FIELDS))
        self._looked_at, self._aligned = array("Q"), False
        self._nothing = torch.zeros(0, dtype=torch.float64, device=self._device)
        self._places, self._numbers, self._salts = (Sent(self._device) for _ in range(3))

    def _cut(self, heights: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Cut tensors with so many rows of such lengths into blocks: tensor, first element, their count and the row."""
        pieces = -(-lengths // self.block)
        each = heights * pieces
        tensors = np.repeat(np.arange(len(each)), each)
        number = np.arange(len(tensors)) - (np.cumsum(each) - each)[tensors]
        row, piece = np.divmod(number, pieces[tensors])
        start = piece * self.block
        count = np.minimum(self.block, lengths[tensors] - start)
        return np.stack([tensors, row * lengths[tensors] + start, count, row], 1)

    def aligned(self, places: array[int]) -> bool:
        """Whether every block begins at a multiple of 16 bytes, where tensors begin at these addresses."""
        if places != self._looked_at:
            together = int(np.bitwise_or.reduce(np.frombuffer(places, np.uint64)))
            self._looked_at, self._aligned = places, self._even and not together % STRIDE
        return self._aligned

    def places(self, places: array[int]) -> Tensor:
        """Return the addresses on the device."""
        return self._places(places, torch.int64)

    def numbers(self, stretches: Sequence[NativeStretch]) -> Tensor:
        """Return the numbers of every set ``[sets * numbers]`` on the device; what is there already stays there."""
        if capturing(self._device):
            RECORDED.append(self.blocks)
        values, there = array("d"), list[tuple[slice, Tensor]]()
        for s in stretches:
            sets, numbers = len(s.chunk.bands), list(s.program.numbers)
            for i, number in enumerate(numbers):
                on_device = isinstance(number, Tensor) and (s.work.cohort.counts_there or number.device.type != "cpu")
                if on_device or isinstance(number, Counted):
                    first = len(values) + i
                    places = slice(first, first + sets * len(numbers), len(numbers))
                    there.append((places, number.values if isinstance(number, Counted) else number))
                    numbers[i] = 0.0
            for one in range(sets):
                values.extend(float(n.values[one] if isinstance(n, Rates) else n) for n in numbers)
        table = self._numbers(values, self._dtype)
        if there:
            table = table.clone()
            for places, number in there:
                table[places].copy_(number)
        return table

    def salts(self, stretches: Sequence[NativeStretch]) -> Tensor:
        """Return what stochastic rounding goes by at this step ``[sets]``, on the device."""
        if stretches[0].work.cohort.counts_there:
            return salts_of(torch.cat([s.work.cohort.counts(s.chunk.bands).values for s in stretches]).long())
        salts = array("q")
        for s in stretches:
            each = s.work.salts(s.chunk)
            salts.extend(each[first] for first in [0, *itertools.accumulate(s.chunk.spans)][:-1])
        return self._salts(salts, torch.int64)

    def sums(self, vectors: int) -> Tensor:
        """Return where the kernel puts the sums of so many vectors, float64 ``[vectors, blocks]``."""
        return self._nothing.new_zeros(vectors, self.count) if vectors else self._nothing

    def by_bucket(self, sums: Tensor) -> list[list[RowSums]]:
        """Return the sums of rows from those of blocks ``[sums, blocks]``, as `Stretch.run_all` does."""
        return [
            [
                tuple(
                    (one[first:last].view(rows, -1).sum(1) if last > first else one.new_zeros(rows)).view(count, -1)
                    for one in sums
                )
                for first, last, rows, count in buckets
            ]
            for buckets in self._buckets
        ]


class Sent:
    """Numbers on the device, which are sent when they are others than before."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._bytes = b""
        self._tensor: Any = None

    def __call__(self, values: array[Any], dtype: torch.dtype) -> Tensor:
        """Return the values in this dtype; nothing waits until they are there."""
        given = values.tobytes()
        if capturing(self._device):
            return self._recorded(values, given)
        if self._tensor is not None and given == self._bytes:
            return self._tensor  # type: ignore[no-any-return]
        kind = torch.float64 if values.typecode == "d" else torch.int64
        tensor = torch.frombuffer(bytearray(given), dtype=kind) if given else torch.empty(0, dtype=kind)
        self._tensor, self._bytes = tensor.to(dtype).to(self._device, non_blocking=True), given
        return self._tensor  # type: ignore[no-any-return]

    def _recorded(self, values: array[Any], given: bytes) -> Tensor:
        """Return the values as a graph can write them again: what was sent, with the differences as its own constants.

        Raises:
            SoonerError: nothing was sent before the capture.
        """
        if self._tensor is None:
            raise refuse_capture()
        RECORDED.append(self._tensor)
        if given == self._bytes:
            return self._tensor  # type: ignore[no-any-return]
        before = array(values.typecode, self._bytes)
        changed = [i for i, (a, b) in enumerate(zip(before, values, strict=True)) if a != b]
        tensor: Tensor = self._tensor.clone()
        if tensor.dtype == torch.int64:
            apart = [values[i] - before[i] for i in changed]
            torch._foreach_add_([tensor[i] for i in changed], apart)  # many in one launch
        else:
            for i in changed:
                tensor[i].fill_(values[i])
        return tensor
