"""What a link costs, from two numbers of it: its rate, and how long a message takes that carries nothing.

    seconds = messages * alpha + (bytes * (1 + headers) - pauses * bucket) * 8 / rate
    headers = 66 / (MTU - 52)

A frame of Ethernet has 14 bytes of its own, 20 of IP and 32 of TCP with its timestamps: 4.6 % at an MTU of 1500. A
token bucket, which is what limits rates in routers and in `sooner link`, lets its size pass at once after a pause.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sooner.error import SoonerError

_ETHERNET, _IP, _TCP = 14, 20, 32


@dataclass(frozen=True)
class LinkModel:
    """A link.

    Attributes:
        rate: bits per second; infinite for no limit.
        alpha: seconds that a message takes beyond what it took where the step was measured, such as the latency.
        mtu: bytes of the largest packet.
        bucket: bytes that pass at once after a pause.

    Raises:
        SoonerError: a value out of range.
    """

    rate: float
    alpha: float = 0.0
    mtu: int = 1500
    bucket: int = 0

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise SoonerError(f"a rate of {self.rate:g} bit/s carries nothing; give one above 0")
        if not (math.isfinite(self.alpha) and self.alpha >= 0):
            raise SoonerError(f"a latency of {self.alpha:g} seconds can't be; give 0 or more")
        if not _IP + _TCP < self.mtu <= 65536:
            raise SoonerError(f"an MTU of {self.mtu} bytes leaves no room for data or is none; give 576 to 65536")

    @property
    def headers(self) -> float:
        """Bytes of headers per byte of data."""
        return (_ETHERNET + _IP + _TCP) / (self.mtu - _IP - _TCP)

    def on_the_wire(self, data: float) -> float:
        """Return the bytes on the interface for bytes of data."""
        return data * (1 + self.headers)

    def seconds(self, data: float, messages: float, pauses: float = 1.0) -> float:
        """Return what the link adds to a step that sends so many bytes of data in so many messages.

        Args:
            data: bytes.
            messages: that follow on one another.
            pauses: before which nothing was sent; less than one where only every so many steps send.
        """
        queued = self.on_the_wire(data)
        if self.bucket:
            queued = max(0.0, queued - pauses * self.bucket)
        return messages * self.alpha + queued * 8 / self.rate
