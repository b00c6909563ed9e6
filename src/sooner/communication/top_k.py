"""Top-k sparsification: every worker sends only its largest numbers and their places.

    C(v) = v where |v| is among the k largest of its vector, 0 elsewhere,   k = ceil(ratio * d)

Use it when the network is very slow and a memory (error feedback, EF21) keeps what is left out.

Leave it when many workers take part: what everyone receives grows with their number, unlike a mean.

It costs 8 bytes on the wire per number sent (value and place; 6 with half-precision values), to every other worker; no
state; no pass.

Aji and Heafield, 2017, arXiv 1704.05021; Stich et al., 2018, arXiv 1809.07599; the sampled threshold is that of Lin et
al., 2017, arXiv 1712.01887, section 5, with a payload of fixed length in place of corrections that wait for the device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sooner.communication._codec import Codec, Moment
from sooner.communication._sparse import check_ratio, count_of, in_every_parameter, largest, mean_of, picked, spread
from sooner.communication._wire import Payload
from sooner.foundation.generators import generator_at
from sooner.part import check_choice, check_flags
from sooner.space import Choice, Knob


@dataclass(frozen=True)
class TopK(Codec):
    """Sends the largest numbers of the whole vector, or of every parameter.

    Args:
        ratio: share of the numbers that is sent, in (0, 1], default 0.01; at least one number.
        per: "model" for the largest of all, "parameter" for the largest of every parameter.
        select: "exact", or "sampled" for those above a threshold that a hundredth of the numbers suggests; where fewer
            are, zeros fill the payload.
        half_values: send values as float16, behind one scale per worker.

    Raises:
        SoonerError: a value out of range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"ratio": Choice(0.001, 0.003, 0.01, 0.03, 0.1)}
    ratio: float = 0.01
    per: str = "model"
    select: str = "exact"
    half_values: bool = False

    def __post_init__(self) -> None:
        check_ratio("top_k", self.ratio)
        check_choice("top_k", "per", self.per, ("model", "parameter"))
        check_choice("top_k", "select", self.select, ("exact", "sampled"))
        check_flags("top_k", half_values=self.half_values)

    @property
    def bytes_per_number(self) -> float:
        """Value and place of the share that is sent."""
        return self.ratio * (6 if self.half_values else 8)

    def encode(self, v: Tensor, moment: Moment) -> Payload:
        """Return values and int32 places, (..., k), and the scale of half-precision values, (..., 1) float32."""

        def choose(part: Tensor, k: int) -> Tensor:
            return largest(part, k) if self.select == "exact" else _sampled(part, k, moment.step)

        if self.per == "model":
            places = choose(v, count_of(self.ratio, v.shape[-1]))
        else:
            places = in_every_parameter(v, moment.layout.blocks, self.ratio, choose)
        missing = places < 0
        values, places = picked(v, places.clamp(min=0))
        values = values.masked_fill_(missing, 0) + v[..., :1] * 0  # NaN stays NaN where every vector is all of it
        if not self.half_values:
            return values, places
        scale = values.abs().amax(-1, keepdim=True).float()
        return (values / scale.clamp(min=torch.finfo(torch.float32).tiny)).half(), places, scale

    def decode(self, payload: Payload, moment: Moment) -> Tensor:
        """Return the vectors with zeros in between."""
        return spread(_scaled(payload), moment.layout.size)

    def decode_mean(self, payloads: Payload, moment: Moment) -> Tensor:
        """Return their mean."""
        return mean_of(_scaled(payloads), moment.layout.size)


def _scaled(payload: Payload) -> Payload:
    values, places, *scale = payload
    return (values.float() * scale[0] if scale else values, places)


def _sampled(v: Tensor, k: int, step: int) -> Tensor:
    """Return the places (..., k) of numbers about as large as the k largest of ``v`` (..., d), -1 where none is left.

    A threshold a little low lets about 1.2 k numbers through; the k largest of the first 2 k of them are taken.
    """
    size = v.shape[-1]
    samples = max(size // 100, 2 * size // max(k, 1), 1)
    if 4 * samples > size:
        return largest(v, k)
    stride = (size // samples) | 1  # odd, so as not to stay in one column of a matrix
    start = int(torch.randint(stride, (), generator=generator_at(0, step)))
    sample = v[..., start::stride].abs()
    threshold = sample.topk(min(math.ceil(1.2 * k / size * sample.shape[-1]), sample.shape[-1]), sorted=False)
    above = v.abs() >= threshold.values.amin(-1, keepdim=True)
    few = min(2 * k, size)
    rows = [torch.nonzero_static(row, size=few)[:, 0] for row in above.reshape(-1, size)]
    candidates = torch.stack(rows).view(*v.shape[:-1], few)
    values = v.gather(-1, candidates.clamp(min=0)).abs().masked_fill_(candidates < 0, -1)
    return candidates.gather(-1, values.topk(k, sorted=False).indices)
