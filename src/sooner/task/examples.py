"""Training data that can be asked for single examples, for parts that choose which of them a step sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset, default_collate

from sooner.error import SoonerError


@dataclass(frozen=True, eq=False)
class Examples:
    """A map-style data set and what is known of each of its examples.

    Args:
        dataset: ``dataset[i]`` is an example, ``len(dataset)`` their number N.
        batch_size: examples of a batch.
        labels: (N,) the class of each example; None (default) where there are none.
        domains: (N,) where each example comes from, numbers or texts; None (default) where that is one place.
        weights: (N,) how much each example counts; None (default) for alike.
        collate: makes a batch of a list of examples, default that of a DataLoader.

    Raises:
        SoonerError: a batch size below 1, or labels, domains or weights of another length.
    """

    dataset: Dataset[Any]
    batch_size: int
    labels: Sequence[Any] | Tensor | None = None
    domains: Sequence[Any] | Tensor | None = None
    weights: Sequence[float] | Tensor | None = None
    collate: Callable[[list[Any]], Any] = default_collate

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise SoonerError(f"Examples: batch_size={self.batch_size} is no batch; choose at least 1")
        for name in ("labels", "domains", "weights"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self):
                raise SoonerError(
                    f"Examples: {name} are {len(value)} and the data set has {len(self)} examples; give one per example"
                )

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def batch(self, positions: Sequence[int]) -> Any:
        """Return the batch of these examples, in this order."""
        if isinstance(self.dataset, TensorDataset) and self.collate is default_collate:
            chosen = torch.as_tensor(positions)
            return [tensor[chosen] for tensor in self.dataset.tensors]  # what collating one by one gives, at once
        if hasattr(self.dataset, "__getitems__"):
            return self.collate(self.dataset.__getitems__(list(positions)))
        return self.collate([self.dataset[i] for i in positions])


@dataclass(frozen=True)
class Passes:
    """The batches of a task that has examples and no `batches` of its own, as a function of seed and split.

    Training goes through shuffled passes that leave out an incomplete batch at their end; evaluation through all
    examples in order.

    Args:
        examples: ``examples(split) -> Examples``.
    """

    examples: Callable[[str], Examples]

    def __call__(self, seed: int, split: str) -> Any:
        """Return the batches of a split, indexed by step."""
        return _Pass(self.examples(split), None if split == "eval" else seed)


class _Pass:
    def __init__(self, examples: Examples, seed: int | None) -> None:
        self._examples, self._seed = examples, seed
        if seed is not None and len(examples) < examples.batch_size:
            raise SoonerError(
                f"Examples: {len(examples)} examples make no batch of {examples.batch_size}; choose a smaller "
                "batch_size"
            )

    def __len__(self) -> int:
        if self._seed is not None:
            raise TypeError("training batches have no end")
        return -(-len(self._examples) // self._examples.batch_size)

    def __getitem__(self, step: int) -> Any:
        size, count = self._examples.batch_size, len(self._examples)
        if self._seed is None:
            if not 0 <= step < len(self):
                raise IndexError(f"batch {step} does not exist: there are {len(self)}")
            return self._examples.batch(range(step * size, min((step + 1) * size, count)))
        if step < 0:
            raise IndexError(f"batch {step} does not exist: batches count from 0")
        number, place = divmod(step, count // size)
        order = np.random.default_rng([self._seed, number]).permutation(count)
        return self._examples.batch(order[place * size : (place + 1) * size].tolist())

    def __iter__(self) -> Iterator[Any]:
        return (self[step] for step in range(len(self)))
