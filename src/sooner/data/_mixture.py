"""Batches that mix domains by given probabilities, each as a function of a seed and the step's number alone.

A batch draws the domain of every example independently, and then takes the next example of that domain's own shuffled
passes. How many examples of each domain came before a step is found without drawing the steps before it: the number in
a block of steps is multinomial, and the number in one half of a stretch, given that in the whole, is multivariate
hypergeometric. So step t is reached in as many draws as the logarithm of the block's length.
"""

from __future__ import annotations

import functools
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import ConcatDataset, Sampler

from sooner.error import SoonerError
from sooner.part import check_range

Counts = NDArray[np.int64]

BLOCK = 2**16
"""Steps of a block, fewer where batches are so large that a block would hold half a billion examples."""


def members_of(part: str, domains: Any) -> list[Counts]:
    """Return the positions of every domain's examples, the domains in the order of their names or numbers.

    Args:
        part: who asks, for messages.
        domains: (N,) the domain of each example, numbers or texts; or a `ConcatDataset`, each of whose parts is one.

    Raises:
        SoonerError: no example, or no number or text per example.
    """
    if isinstance(domains, ConcatDataset):
        ends = [0, *domains.cumulative_sizes]
        found = [np.arange(low, high) for low, high in itertools.pairwise(ends)]
    else:
        given = np.asarray(domains.cpu() if isinstance(domains, Tensor) else domains)
        if given.ndim != 1 or given.dtype.kind not in "iubU":
            raise SoonerError(
                f"{part}: domains has the shape {given.shape} and the type {given.dtype}; give one whole number or "
                "text per example"
            )
        names, numbers = np.unique(given, return_inverse=True)
        order = np.argsort(numbers, kind="stable")
        found = np.split(order, np.cumsum(np.bincount(numbers, minlength=len(names)))[:-1])
    found = [one for one in found if len(one)]
    if not found:
        raise SoonerError(f"{part}: domains is empty; give the domain of every example")
    return found


def probabilities(sizes: Sequence[int], tau: float) -> NDArray[np.float64]:
    """Return ``q_j = n_j^(1/tau) / sum``: in proportion at tau = 1, uniform at infinity."""
    powers = np.log(np.asarray(sizes, dtype=np.float64)) / tau
    weights = np.exp(powers - powers.max())
    found: NDArray[np.float64] = weights / weights.sum()
    return found


def upweight(domains: Any, tau: float = 5.0) -> NDArray[np.float64]:
    """Return what to multiply the loss of each example by, so that proportional batches have the expectation of tau.

        w = q_j(tau) / q_j(1)     for an example of domain j; its mean over all examples is 1

    The control that sampling is compared with: the same expected gradient, with more variance the rarer a domain is.
    Don't divide by the sum of a batch's weights, which would not be the same in expectation.

    Args:
        domains: as `Temperature` takes them.
        tau: at least 1, default 5; infinity for uniform.

    Returns:
        (N,) weights, float64.

    Raises:
        SoonerError: no examples, or a temperature below 1.
    """
    check_tau("upweight", "tau", tau)
    members = members_of("upweight", domains)
    sizes = [len(one) for one in members]
    weights = np.empty(sum(sizes))
    for own, q, n in zip(members, probabilities(sizes, tau), sizes, strict=True):
        weights[own] = q * len(weights) / n
    return weights


def check_tau(part: str, name: str, value: float) -> None:
    """Refuse a temperature below 1 that is not infinite either.

    Raises:
        SoonerError: it is.
    """
    if not (isinstance(value, float) and value == math.inf):
        check_range(part, name, value, 1.0, math.inf)


class Mixture:
    """How many examples of each domain a run with constant probabilities has drawn before a step.

    Args:
        probabilities: of the domains.
        batch: examples per step.
        seed: numbers that name this run's stream.
    """

    def __init__(self, probabilities: NDArray[np.float64], batch: int, seed: tuple[int, ...]) -> None:
        self._q, self._batch, self._seed = probabilities, batch, seed
        self.block = BLOCK
        while self.block > 1 and self.block * batch > 500_000_000:  # what numpy splits is less than a billion
            self.block //= 2
        self._node = functools.lru_cache(maxsize=256)(self._split)
        self._before: list[Counts] = [np.zeros(len(probabilities), dtype=np.int64)]  # at the beginning of each block

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_node"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._node = functools.lru_cache(maxsize=256)(self._split)

    def before(self, step: int) -> Counts:
        """Return the examples of each domain in steps 0 to `step` - 1, ``[domains]``."""
        number, place = divmod(step, self.block)
        while len(self._before) <= number:
            self._before.append(self._before[-1] + self._node(len(self._before) - 1, 0, self.block))
        found = self._before[number].copy()
        low, high = 0, self.block
        while place > low:  # the part of [low, high) that lies before `place`
            middle = (low + high) // 2
            if place >= middle:
                found += self._node(number, low, middle)
                low = middle
            else:
                high = middle
        return found

    def _split(self, number: int, low: int, high: int) -> Counts:
        """Return the counts in steps [low, high) of a block: of a whole, or of one half given the whole."""
        if high - low == self.block:
            generator = np.random.default_rng([*self._seed, number])
            return generator.multinomial(self.block * self._batch, self._q)
        length = 2 * (high - low)
        start = low // length * length
        whole = self._node(number, start, start + length)
        generator = np.random.default_rng([*self._seed, number, start, length])
        first = generator.multivariate_hypergeometric(whole, length // 2 * self._batch)
        return first if low == start else whole - first


class DomainSampler(Sampler[list[int]], ABC):
    """Batches of positions for ``DataLoader(batch_sampler=...)``; `sampler[step]` is the batch of any step.

    Args:
        part: who it is, for messages.
        domains: the domain of each example.
        batch_size: examples of a batch on one worker.
        steps: batches that iterating gives; None for no end.
        seed: decides everything, with the step.
        start: where iterating begins, such as the step to resume from.
        rank: this worker's number; the workers share out the examples of a batch of ``batch_size * world``.
        world: how many workers there are.

    Attributes:
        sizes: examples of each domain.
        drop_last: False, as other samplers of batches have it.
    """

    drop_last: ClassVar[bool] = False

    def __init__(
        self, part: str, domains: Any, batch_size: int, steps: int | None, seed: int, start: int, rank: int, world: int
    ) -> None:
        for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0), ("start", start, 0)):
            check_range(part, name, value, least, math.inf, whole=True)
        check_range(part, "steps", 1 if steps is None else steps, 1, math.inf, whole=True)
        check_range(part, "world", world, 1, math.inf, whole=True)
        check_range(part, "rank", rank, 0, world - 1, whole=True)
        self._members = members_of(part, domains)
        self.sizes = [len(one) for one in self._members]
        self.batch_size, self.steps, self.seed, self.start = int(batch_size), steps, int(seed), int(start)
        self.rank, self.world = int(rank), int(world)
        self._passes: dict[int, tuple[int, Counts]] = {}

    @abstractmethod
    def weights(self, step: int) -> NDArray[np.float64]:
        """Return the probabilities of the domains at a step, ``[domains]``."""

    @abstractmethod
    def counts(self, step: int) -> Counts:
        """Return how many examples of each domain all workers have drawn before a step, ``[domains]``."""

    def passes(self, step: int) -> list[float]:
        """Return how often the examples of each domain have been seen before a step, on all workers together."""
        return [count / size for count, size in zip(self.counts(step).tolist(), self.sizes, strict=True)]

    def __len__(self) -> int:
        if self.steps is None:
            raise TypeError(f"{type(self).__name__} without steps has no length")
        return max(0, self.steps - self.start)

    def __iter__(self) -> Iterator[list[int]]:
        step = self.start
        while self.steps is None or step < self.steps:
            yield self[step]
            step += 1

    def __getitem__(self, step: int) -> list[int]:
        """Return the positions of the examples that a step sees on this worker.

        Raises:
            IndexError: a step before the first or behind the last.
        """
        if step < 0 or (self.steps is not None and step >= self.steps):
            raise IndexError(f"step {step} does not exist: there are {self.steps}, counted from 0")
        before, after = self.counts(step), self.counts(step + 1)
        drawn = np.concatenate(
            [
                self._next(j, low, high)
                for j, (low, high) in enumerate(zip(before.tolist(), after.tolist(), strict=True))
            ]
        )
        order = np.random.default_rng([self.seed, 2, step]).permutation(len(drawn))
        mine: list[int] = drawn[order[self.rank :: self.world]].tolist()
        return mine

    def _next(self, domain: int, low: int, high: int) -> Counts:
        """Return examples number `low` to `high` - 1 of a domain's endless row of shuffled passes."""
        found = []
        size = self.sizes[domain]
        while low < high:
            number, place = divmod(low, size)
            taken = min(high - low, size - place)
            kept = self._passes.get(domain)
            if kept is None or kept[0] != number:  # a pass is shuffled once, and again where somebody goes back
                order = np.random.default_rng([self.seed, 1, domain, number]).permutation(self._members[domain])
                kept = self._passes[domain] = number, order
            found.append(kept[1][place : place + taken])
            low += taken
        return np.concatenate(found) if found else np.empty(0, dtype=np.int64)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_passes": {}}


class Temperature(DomainSampler):
    """Draws domains with fixed probabilities ``n_j^(1/tau) / sum``, and each domain's examples in shuffled passes.

    Args:
        domains: (N,) the domain of each example, numbers or texts; or a `torch.utils.data.ConcatDataset`, each of whose
            parts is one.
        batch_size: examples of a batch on one worker.
        steps: batches that iterating gives; None (default) for no end.
        tau: 1 (default) draws in proportion, infinity uniformly.
        seed: decides everything, with the step; default 0.
        start: where iterating begins, default 0; the step to resume from.
        rank: this worker's number, default 0.
        world: how many workers share a batch of ``batch_size * world``, default 1.

    Raises:
        SoonerError: a number out of range, or no domain per example.
    """

    def __init__(
        self,
        domains: Any,
        batch_size: int,
        steps: int | None = None,
        tau: float = 1.0,
        seed: int = 0,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        check_tau("temperature", "tau", tau)
        super().__init__("temperature", domains, batch_size, steps, seed, start, rank, world)
        self.tau = tau
        self._q = probabilities(self.sizes, tau)
        self._mixture = Mixture(self._q, self.batch_size * self.world, (self.seed, 0))

    def weights(self, step: int) -> NDArray[np.float64]:
        """Return the probabilities of the domains, the same at every step, ``[domains]``."""
        return self._q

    def counts(self, step: int) -> Counts:
        """Return how many examples of each domain all workers have drawn before a step, ``[domains]``."""
        return self._mixture.before(step)
