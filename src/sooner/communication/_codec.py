"""What a vector becomes on the wire, and what the receivers make of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sooner.communication._wire import Payload, Wire
from sooner.foundation.layout import Layout
from sooner.part import Part

Buffers = dict[str, Tensor]
"""State by name: a worker's own vectors are (..., d), what all workers share has no worker dimension."""


@dataclass(frozen=True)
class Moment:
    """When and where an exchange happens.

    Attributes:
        step: number of the exchange, from 1.
        layout: where every parameter lies in the vector.
        workers: how many workers there are.
    """

    step: int
    layout: Layout
    workers: int


@dataclass(frozen=True)
class Sent:
    """What became of an exchange.

    Attributes:
        own: (..., d) what the others decode from this worker's payload.
        mean: (d,) the mean of that over the workers.
    """

    own: Tensor
    mean: Tensor


class Codec(Part):
    """A frozen dataclass of hyper-parameters that encodes vectors (..., d) along their last dimension.

    Attributes:
        reducible: payloads add up, so that the mean of vectors is the decoded mean of payloads (an all-reduce);
            everything else is all-gathered.
        contractive: something is lost for good unless a memory keeps it.
        needs_matrices: it looks at whole parameters, not just at vectors, so that shards and buckets are no use to it.
    """

    station: ClassVar[str] = "communication"
    owns: ClassVar[frozenset[str]] = frozenset({"codec"})
    order: ClassVar[int] = 30
    reducible: ClassVar[bool] = False
    contractive: ClassVar[bool] = True
    needs_matrices: ClassVar[bool] = False
    passes_nan: ClassVar[bool] = False

    @property
    def bytes_per_number(self) -> float:
        """Payload bytes over numbers for a large float32 vector; an upper bound where that depends on the model."""
        return 4.0

    def buffers(self, layout: Layout, like: Tensor) -> Buffers:
        """Return the state before the first exchange; the same on all workers. `like` says dtype and device."""
        return {}

    def encode(self, v: Tensor, moment: Moment) -> Payload:
        """Return what goes over the wire; all workers' payloads have the same shapes."""
        raise TypeError(f"{type(self).__name__} defines no encode")

    def decode(self, payload: Payload, moment: Moment) -> Tensor:
        """Return the vectors (..., d), in float32 or wider, that a payload (..., *) stands for."""
        raise TypeError(f"{type(self).__name__} defines no decode")

    def decode_mean(self, payloads: Payload, moment: Moment) -> Tensor:
        """Return the mean (d,) of the vectors that all workers' payloads (workers, ...) stand for."""
        workers = len(payloads[0])
        made = self.decode(tuple(part[0] for part in payloads), moment) / workers
        for i in range(1, workers):  # one by one, so that the memory does not grow with them
            made.add_(self.decode(tuple(part[i] for part in payloads), moment), alpha=1 / workers)
        return made

    def send(self, v: Tensor, wire: Wire, state: Buffers, moment: Moment) -> Sent:
        """Exchange ``v`` (..., d). Codecs of several phases write their own.

        New tensors go into `state`; those in it are not written to, so that an exchange can be undone.
        """
        payload = self.encode(v, moment)
        if self.reducible:
            mean = self.decode(wire.mean(payload), moment)
        else:
            mean = self.decode_mean(wire.gather(payload), moment)
        return Sent(self.decode(payload, moment).to(v.dtype), mean.to(v.dtype))


def nan_unless_finite(v: Tensor) -> Tensor:
    """Return (..., 1): 0 for every vector (..., d) of finite numbers, NaN for the others."""
    # a sum is the cheapest pass there is, and overflows only where numbers are about to do so anyway
    return v.sum(-1, keepdim=True) * 0
