"""Dense averaging: every worker sends its numbers as they are, and all go on with the mean.

    g = (1 / n) sum_i g_i

Use it when the network is fast, or as the baseline that everything else has to beat.

Leave it when a step waits for the network.

It costs a whole gradient per step on the wire; no state; no pass.

Textbook synchronous data parallelism, as `torch.nn.parallel.DistributedDataParallel` does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sooner.communication._codec import Codec, Moment
from sooner.communication._wire import Payload


@dataclass(frozen=True)
class Dense(Codec):
    """Sends vectors as they are, in one all-reduce."""

    reducible: ClassVar[bool] = True
    contractive: ClassVar[bool] = False
    passes_nan: ClassVar[bool] = True

    def encode(self, v: Tensor, moment: Moment) -> Payload:
        """Return ``v`` itself."""
        return (v,)

    def decode(self, payload: Payload, moment: Moment) -> Tensor:
        """Return it."""
        return payload[0]
