"""Random-k sparsification: all workers send the numbers at the same random places, so that they add up.

    C(v) = v at k places that the seed and the step choose, 0 elsewhere,   k = ceil(ratio * d)

Use it when many workers take part: an all-reduce of k values, and no place on the wire, whatever their number.

Leave it when few do: the largest numbers (top_k) say more.

It costs 4 bytes on the wire per number sent, once; no state; no pass.

Stich et al., 2018, arXiv 1809.07599, definition 2.2; Wangni et al., 2017, arXiv 1710.09854, for the unbiased one. A
random place out of each of k equal stretches, all shifted around by a random distance: every place is as likely.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sooner.communication._codec import Codec, Moment
from sooner.communication._sparse import check_ratio, count_of
from sooner.communication._wire import Payload
from sooner.foundation.generators import generator_at
from sooner.part import check_flags, check_range
from sooner.space import Choice, Knob


@dataclass(frozen=True)
class RandomK(Codec):
    """Sends numbers at random places.

    Args:
        ratio: share of the numbers that is sent, in (0, 1], default 0.01; at least one number.
        unbiased: scale what is sent by d / k, so that it is right on average; for use without a memory only.
        seed: of the places, the same on all workers.

    Raises:
        SoonerError: a value out of range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"ratio": Choice(0.003, 0.01, 0.03, 0.1)}
    reducible: ClassVar[bool] = True
    ratio: float = 0.01
    unbiased: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_ratio("random_k", self.ratio)
        check_range("random_k", "seed", self.seed, 0, 2**31 - 1, whole=True)
        check_flags("random_k", unbiased=self.unbiased)

    @property
    def bytes_per_number(self) -> float:
        """The values of the share that is sent."""
        return 4 * self.ratio

    def encode(self, v: Tensor, moment: Moment) -> Payload:
        """Return values (..., k)."""
        places = self.places(moment, v.device)
        values = v.index_select(-1, places)
        return (values * (v.shape[-1] / len(places)) if self.unbiased else values,)

    def decode(self, payload: Payload, moment: Moment) -> Tensor:
        """Return the vectors with zeros in between."""
        (values,) = payload
        made = values.new_zeros(*values.shape[:-1], moment.layout.size)
        return made.index_copy_(-1, self.places(moment, values.device), values)

    def places(self, moment: Moment, device: torch.device) -> Tensor:
        """Return the places (k,) of this step, the same on all workers."""
        size = moment.layout.size
        return _places(self.seed, moment.step, count_of(self.ratio, size), size, device)


@functools.lru_cache(maxsize=2)
def _places(seed: int, step: int, k: int, size: int, device: torch.device) -> Tensor:
    generator = generator_at(seed, step)
    starts = torch.arange(k + 1) * size // k
    inside = (torch.rand(k, dtype=torch.float64, generator=generator) * starts.diff()).long()
    shift = torch.randint(size, (1,), generator=generator)
    return ((starts[:-1] + inside + shift) % size).to(device)
