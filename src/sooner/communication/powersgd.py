"""PowerSGD: every matrix crosses the wire as two thin factors, from one step of power iteration per exchange.

    P = mean_i M_i Q,   P <- orthonormal(P),   Q_i = M_i^T P,   Q = mean_i Q_i,   mean M = P Q^T,   C(M_i) = P Q_i^T

Use it when the network is slow and the model has large matrices: factors add up, so the bytes do not grow with the
workers. Put error feedback behind it.

Leave it when the parameters are mostly vectors or small matrices, which are sent as they are.

It costs 4 rank (rows + columns) bytes per matrix on the wire, in two all-reduces; the factors Q as state; no pass.

Vogels et al., 2019, arXiv 1905.13727, algorithms 1 and 2. The error of a worker is what is missing of its own matrix,
as in the paper, not of the mean, as in torch's hook, which aborts on gloo with two or more buckets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sooner.communication._codec import Buffers, Codec, Moment, Sent
from sooner.communication._wire import Wire
from sooner.foundation.generators import generator_at
from sooner.foundation.layout import Block, Layout
from sooner.part import check_flags, check_range
from sooner.space import Choice, Knob


@dataclass(frozen=True)
class PowerSGD(Codec):
    """Sends low-rank factors of all matrices, and everything else as it is.

    Args:
        rank: columns of the factors, default 4.
        warm_start: begin with the factors of the exchange before, rather than with random ones.
        seed: of the first (or every) random factor, the same on all workers.

    Raises:
        SoonerError: a value out of range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"rank": Choice(1, 2, 4, 8)}
    reducible: ClassVar[bool] = True
    passes_nan: ClassVar[bool] = True
    needs_matrices: ClassVar[bool] = True
    rank: int = 4
    warm_start: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("powersgd", "rank", self.rank, 1, math.inf, whole=True)
        check_range("powersgd", "seed", self.seed, 0, 2**31 - 1, whole=True)
        check_flags("powersgd", warm_start=self.warm_start)

    def buffers(self, layout: Layout, like: Tensor) -> Buffers:
        """Return the factors Q of all matrices, one after the other."""
        return {"q": self._random(layout, like, 0)}

    def send(self, v: Tensor, wire: Wire, state: Buffers, moment: Moment) -> Sent:
        """Average first the left factors, with all that is not compressed, then the right ones."""
        blocks, rest = self._divided(moment.layout)
        start = state["q"] if self.warm_start else self._random(moment.layout, v, moment.step)
        matrices = [_matrices(block, v) for block in blocks]  # (..., count, rows, columns)
        left = [m @ q for m, q in zip(matrices, self._factors(start, blocks), strict=True)]
        mean_rest, *left = wire.mean((torch.cat([v[..., a:b] for a, b in rest] or [v[..., :0]], -1), *left))
        bases = [torch.linalg.qr(p).Q for p in left]  # orthonormal even where P is not of full rank
        right = [m.mT @ p for m, p in zip(matrices, bases, strict=True)]
        mean_right = wire.mean(tuple(right)) if blocks else ()
        own, mean = torch.empty_like(v), v.new_empty(v.shape[-1])
        for block, p, q, mean_q in zip(blocks, bases, right, mean_right, strict=True):
            torch.matmul(p, q.mT, out=_matrices(block, own))
            torch.matmul(p, mean_q.mT, out=_matrices(block, mean))
        for (a, b), one in zip(rest, torch.split(mean_rest, [b - a for a, b in rest]), strict=True):
            own[..., a:b], mean[a:b] = v[..., a:b], one
        if blocks:
            # as long as it was, the next left factor would have the square of the matrix: too large or too small
            state["q"] = torch.cat([_scaled(q).reshape(-1) for q in mean_right])
        return Sent(own, mean)

    def _divided(self, layout: Layout) -> tuple[list[Block], list[tuple[int, int]]]:
        """Return the blocks whose factors are smaller than their matrices, and the stretches of all other numbers."""
        blocks, rest, position = [], [], 0
        for block in layout.matrices():
            rows, columns = _shape(block)
            if self._rank(block) * (rows + columns) < rows * columns:
                blocks.append(block)
                rest.append((position, block.start))
                position = block.start + block.size
        rest.append((position, layout.size))
        return blocks, [(a, b) for a, b in rest if a < b]

    def _rank(self, block: Block) -> int:
        return min(self.rank, *_shape(block))

    def _factors(self, q: Tensor, blocks: list[Block]) -> list[Tensor]:
        """Return the factors (count, columns, rank) in a flat vector."""
        shapes = [(b.count, _shape(b)[1], self._rank(b)) for b in blocks]
        pieces = torch.split(q, [math.prod(shape) for shape in shapes])
        return [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]

    def _random(self, layout: Layout, like: Tensor, step: int) -> Tensor:
        size = sum(b.count * _shape(b)[1] * self._rank(b) for b in self._divided(layout)[0])
        generator = generator_at(self.seed, step)
        return torch.randn(size, generator=generator, dtype=like.dtype).to(like.device)


def _scaled(q: Tensor) -> Tensor:
    """Return factors (..., columns, rank) with a largest number of 1 in every column."""
    return q / q.abs().amax(-2, keepdim=True).clamp(min=torch.finfo(q.dtype).tiny)


def _shape(block: Block) -> tuple[int, int]:
    return block.shape[0], math.prod(block.shape[1:])


def _matrices(block: Block, v: Tensor) -> Tensor:
    """Return the block of ``v`` (..., d) as a view (..., count, rows, columns)."""
    return block.of(v).view(*v.shape[:-1], block.count, *_shape(block))
