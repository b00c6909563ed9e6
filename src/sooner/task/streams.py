"""Batches from a DataLoader, or from anything that can be walked through, as a function of the step's number.

A stream can only be walked forward. So asking for an earlier step makes it anew from the seed, and asking for a later
one skips what lies between, which a resumed run waits for; what can be indexed by step needs neither.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch

from sooner.error import SoonerError


class Streamed:
    """A task's `batches`, whose streams can be indexed by step.

    What it returns is left alone where it can be indexed already.

    Args:
        batches: ``batches(seed, split)``.
    """

    def __init__(self, batches: Callable[[int, str], Any]) -> None:
        functools.update_wrapper(self, batches)
        self.batches = batches

    def __call__(self, seed: int, split: str) -> Any:
        """Return the batches of a split, indexed by step."""
        found = self.batches(seed, split)
        if hasattr(found, "__getitem__") or not hasattr(found, "__iter__"):
            return found
        return Stream(found, functools.partial(self.batches, seed, split), seed, split)


class Stream:
    """One stream of batches, indexed by step; each pass over it draws with a random state of its own.

    Args:
        first: what the task returned: a DataLoader, or another iterable.
        make: returns it anew.
        seed: of the split.
        split: "train" goes on with another pass where one ends; "eval" is one pass.
    """

    def __init__(self, first: Any, make: Callable[[], Any], seed: int, split: str) -> None:
        self._source, self._make, self._seed, self._split = first, make, seed, split
        self._walk: Iterator[Any] | None = None
        self._walked = False
        self._number = -1
        self._batch: Any = None
        self._passes = 0
        self._state: Any = None

    @functools.cached_property
    def _length(self) -> int:
        try:
            return len(self._source)
        except TypeError:
            self._begin()
            count = 0
            while self._step():
                count += 1
            self._walk = None
            return count

    def __len__(self) -> int:
        if self._split != "eval":
            raise TypeError("training batches have no end")
        return self._length

    def __getitem__(self, step: int) -> Any:
        """Return the batch of a step.

        Raises:
            SoonerError: a stream that gives one pass is at its end.
        """
        if self._walk is None or step < self._number:
            self._begin()
        while self._number < step:
            if not self._step():
                if self._split == "eval":
                    raise IndexError(f"batch {step} does not exist: there are {self._number + 1}")
                self._again()
        return self._batch

    def _begin(self) -> None:
        if self._walked:  # a generator can't be walked through twice
            self._source = self._make()
        self._number, self._passes = -1, 0
        self._walk_on()

    def _again(self) -> None:
        if isinstance(self._source, Iterator) or self._number < 0:
            raise SoonerError(
                f"the training batches end after {self._number + 1} steps, and the run is longer; return a DataLoader, "
                "which goes through its data again, or an object where b[i] is the batch of step i"
            )
        self._passes += 1
        self._walk_on()

    def _walk_on(self) -> None:
        self._walked = True
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed((1_000_003 * self._seed + self._passes) % 2**63)
            self._walk = iter(self._source)
            self._state = torch.get_rng_state()

    def _step(self) -> bool:
        """Take the next batch, drawing from this stream's own random state; return whether there was one."""
        assert self._walk is not None
        outside = torch.get_rng_state()
        torch.set_rng_state(self._state)
        try:
            self._batch = next(self._walk)
        except StopIteration:
            return False
        finally:
            self._state = torch.get_rng_state()
            torch.set_rng_state(outside)
        self._number += 1
        return True
