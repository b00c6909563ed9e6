"""What every bundled task needs to be a pure function of its seed: indexed batches and an isolated generator."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from sooner.error import SoonerError
from sooner.foundation.seeded import seeded

__all__ = ["Batch", "Finite", "Stream", "generator", "scaled", "seeded"]

Batch = tuple[Tensor, ...]


def generator(seed: int, split: str, index: int) -> np.random.Generator:
    """Return the generator of batch `index` of `split`: batches are independent of each other and need no order."""
    return np.random.default_rng([seed, int(split == "eval"), index])


@dataclass(frozen=True)
class Stream:
    """Training batches without an end: `stream[i]` is `make(i)` for every i >= 0."""

    make: Callable[[int], Batch]

    def __getitem__(self, index: int) -> Batch:
        if index < 0:
            raise IndexError(f"batch {index} does not exist: batches count from 0")
        return self.make(index)


@dataclass(frozen=True)
class Finite(Stream):
    """Evaluation batches: a stream of `count` batches that knows its length."""

    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Batch:
        if index >= self.count:
            raise IndexError(f"batch {index} does not exist: there are {self.count}")
        return super().__getitem__(index)


def scaled(width: int, size: float, multiple: int = 1, linear: float = 0.0) -> int:
    """Return the width of a network of about `size` times the parameters.

    Args:
        width: at size 1, which is returned unchanged.
        size: times the parameters, above 0.
        multiple: of which the width is one.
        linear: share of the parameters at size 1 that grow with the width, as embeddings do; the rest grow with its
            square, as matrices between layers do.

    Raises:
        SoonerError: no such size.
    """
    if not 0 < size < math.inf:
        raise SoonerError(f"size={size!r} is no size of a network; choose a number above 0, such as 2")
    if size == 1:
        return width
    # (1 - linear) x^2 + linear x = size, solved without dividing by 1 - linear
    times = 2 * size / (linear + math.sqrt(linear**2 + 4 * (1 - linear) * size))
    return max(1, round(width * times / multiple)) * multiple
