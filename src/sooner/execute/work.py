"""Work: a cohort about to take a step of a chain, and the time it is for each of its parameters."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sooner.execute.chunk import Chunk
from sooner.execute.cohort import Cohort
from sooner.execute.rates import Rates
from sooner.execute.rounding import salt_of
from sooner.transform import Chain, Clock


@dataclass
class Work:
    """One cohort about to take one step of one chain.

    Attributes:
        clock: of parameters that count no steps of their own, and of rules for the whole model.
        rates: the learning rates of the step, by number; None where the clock is everybody's.
        stochastic: whether bfloat16 parameters are rounded stochastically.
        into: where the result goes, one tensor of the state's dtype per parameter; None adds it to the parameters.
    """

    cohort: Cohort
    chain: Chain
    clock: Clock
    maximize: bool = False
    stochastic: bool = False
    into: list[Tensor] | None = None
    rates: Sequence[float | Tensor] | None = None

    def clock_of(self, chunk: Chunk) -> Clock:
        """Return what rules may know of time on this chunk; where its bands differ, the numbers are `Rates`."""
        if self.rates is None:
            return self.clock
        bands = self.cohort.bands[chunk.bands.start : chunk.bands.stop]
        if self.cohort.counts_there:
            return Clock(self.cohort.counts(chunk.bands), self.clock.learning_rate)  # type: ignore[arg-type]
        return Clock(_one([band.steps for band in bands]), _one([self.rates[band.rate] for band in bands]))

    def count_here(self) -> None:
        """Have steps counted on the host from this one on, and know their number."""
        if self.cohort.counts_there:
            self.cohort.count_here()
            self.clock = Clock(self.cohort.bands[0].steps, self.clock.learning_rate)

    @property
    def rounds(self) -> bool:
        """Whether parameters are rounded stochastically."""
        return self.stochastic and self.cohort.params[0].dtype == torch.bfloat16

    def salts(self, chunk: Chunk) -> list[int]:
        """Return what stochastic rounding goes by at this step, for every parameter of a chunk."""
        if self.rates is None:
            return [salt_of(self.clock.step)] * (chunk.last - chunk.first)
        bands = [self.cohort.bands[i] for i in chunk.bands]
        return [salt for band, span in zip(bands, chunk.spans, strict=True) for salt in [salt_of(band.steps)] * span]

    @functools.cached_property
    def gradients(self) -> list[Tensor]:
        """Of the cohort's parameters in its order, as `Cohort.find_gradients` found them."""
        return self.cohort.gradients


def _one(numbers: list[Any]) -> Any:
    """Return the number that all are, or several in its place."""
    first = numbers[0]
    same = len(numbers) == 1 or all(number is first or number == first for number in numbers)
    return first if same else Rates(numbers)
