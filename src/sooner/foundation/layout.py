"""Where every parameter lies in the one flat vector that crosses the wire.

Parameters of one shape lie side by side, so that a codec that works on whole matrices takes all of a shape at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sooner.error import SoonerError


@dataclass(frozen=True)
class Block:
    """Parameters of one shape, side by side.

    Attributes:
        start: where they begin in the flat vector.
        count: how many there are.
        shape: of each.
    """

    start: int
    count: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Numbers in all of them."""
        return self.count * math.prod(self.shape)

    def of(self, v: Tensor) -> Tensor:
        """Return this part of ``v`` (..., d) as a view (..., count, *shape)."""
        piece = v[..., self.start : self.start + self.size]
        return piece.view(*v.shape[:-1], self.count, *self.shape)


class Layout:
    """The flat vector of a model's parameters, or of their gradients.

    Args:
        shapes: name -> shape of every parameter, tied ones once.

    Raises:
        SoonerError: there are none.
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        if not shapes:
            raise SoonerError("there are no parameters to communicate; pass a model with parameters to train")
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        ordered = sorted(self.shapes, key=lambda name: (len(self.shapes[name]), self.shapes[name]))
        self._start: dict[str, int] = {}
        blocks: list[Block] = []
        position = 0
        for name in ordered:
            shape = self.shapes[name]
            if blocks and blocks[-1].shape == shape:
                blocks[-1] = Block(blocks[-1].start, blocks[-1].count + 1, shape)
            else:
                blocks.append(Block(position, 1, shape))
            self._start[name] = position
            position += math.prod(shape)
        self.blocks = tuple(blocks)
        self.size = position

    @classmethod
    def of(cls, named: Mapping[str, Tensor]) -> Layout:
        """Return the layout of these tensors."""
        return cls({name: tuple(t.shape) for name, t in named.items()})

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Return the parameters' places in ``flat`` (..., d), as views (..., *shape), in the order they were given."""
        lead = flat.shape[:-1]
        return {
            name: flat[..., self._start[name] : self._start[name] + math.prod(shape)].view((*lead, *shape))
            for name, shape in self.shapes.items()
        }

    def flatten(self, named: Mapping[str, Tensor], out: Tensor | None = None) -> Tensor:
        """Return the tensors (..., *shape) as one vector (..., d), written into `out` where it is given."""
        if out is None:
            first = next(iter(named.values()))
            lead = first.shape[: first.ndim - len(self.shapes[next(iter(named))])]
            out = first.new_empty(*lead, self.size)
        torch._foreach_copy_(list(self.views(out).values()), [named[name] for name in self.shapes])
        return out

    def taken_from(self, other: Layout, flat: Tensor, rest: Tensor | None = None) -> Tensor:
        """Return a vector (..., other's size) of another layout in this one: what has name and shape in common.

        Args:
            other: the layout of `flat`.
            flat: the vector.
            rest: (..., d) what stands everywhere else; None for zero.
        """
        made = flat.new_zeros(*flat.shape[:-1], self.size) if rest is None else rest.to(flat).clone()
        into, before = self.views(made), other.views(flat)
        common = [n for n, shape in self.shapes.items() if other.shapes.get(n) == shape]
        if common:
            torch._foreach_copy_([into[n] for n in common], [before[n] for n in common])
        return made

    def matrices(self) -> Iterator[Block]:
        """Yield the blocks of parameters with two or more dimensions, larger than a vector either way."""
        yield from (b for b in self.blocks if len(b.shape) > 1 and min(b.shape[0], math.prod(b.shape[1:])) > 1)
