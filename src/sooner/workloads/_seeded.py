"""What every bundled task needs to be a pure function of its seed: indexed batches and an isolated generator."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from sooner.foundation.seeded import seeded

__all__ = ["Batch", "Finite", "Stream", "generator", "seeded"]

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
