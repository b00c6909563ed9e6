"""Top-k sparsification: every worker sends only its largest numbers and their places.

    C(v) = v where |v| is among the k largest of its vector, 0 elsewhere,   k = ceil(ratio * d)

Use it when the network is very slow and a memory (error feedback, EF21) keeps what is left out.

Leave it when many workers take part: what everyone receives grows with their number, unlike a mean.

It costs 8 bytes per number sent (value and place), to every other worker; no state of its own; no pass.

Aji and Heafield, 2017, arXiv 1704.05021; Stich et al., 2018, arXiv 1809.07599; the sampled threshold is that of Lin et
al., 2017, arXiv 1712.01887, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sooner.communication._codec import Codec, Moment
from sooner.communication._sparse import mean_of, picked, spread
from sooner.communication._wire import Payload
from sooner.part import check_range
from sooner.space import Choice, Knob


@dataclass(frozen=True)
class TopK(Codec):
    """Sends the largest numbers of the whole vector, or of every parameter.

    Args:
        ratio: share of the numbers that is sent, in (0, 1], default 0.01; at least one number.
        per: "model" for the largest of all, "parameter" for the largest of every parameter.

    Raises:
        SoonerError: a value out of range.
    """

    space: ClassVar[Mapping[str, Knob]] = {"ratio": Choice(0.001, 0.003, 0.01, 0.03, 0.1)}
    ratio: float = 0.01
    per: str = "model"

    def __post_init__(self) -> None:
        check_range("top_k", "ratio", self.ratio, 0.0, 1.0)

    def encode(self, v: Tensor, moment: Moment) -> Payload:
        """Return values and int32 places, (..., k)."""
        k = math.ceil(self.ratio * v.shape[-1])
        return picked(v, v.abs().topk(k, dim=-1, sorted=False).indices)

    def decode(self, payload: Payload, moment: Moment) -> Tensor:
        """Return the vectors with zeros in between."""
        return spread(payload, moment.layout.size)

    def decode_mean(self, payloads: Payload, moment: Moment) -> Tensor:
        """Return their mean."""
        return mean_of(payloads, moment.layout.size)
