"""What a link lab is made of: rate, loss, ranks, and what goes wrong when; and how people write that."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from sooner.error import SoonerError

_UNITS = {"bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
_LOWEST, _HIGHEST = 1e4, 1e11
MOST_RANKS = 64
"""More network namespaces than that on one machine measure the machine."""


@dataclass(frozen=True)
class Cut:
    """A rank's link goes down.

    Attributes:
        rank: whose.
        at: seconds after the start.
        seconds: how long; None for good.
    """

    rank: int
    at: float
    seconds: float | None = None

    @property
    def told(self) -> str:
        """What happened, in words."""
        length = "" if self.seconds is None else f" for {self.seconds:g} s"
        return f"the link of rank {self.rank} was cut{length} after {self.at:g} s as --cut asked"


@dataclass(frozen=True)
class Kill:
    """A rank is killed with SIGKILL.

    Attributes:
        rank: which.
        at: seconds after the start.
    """

    rank: int
    at: float


@dataclass(frozen=True)
class Lab:
    """A network of ranks on this machine.

    Attributes:
        rate: bits per second of every rank's link, either way; None for no limit.
        loss: share of the packets that get lost, in [0, 1).
        ranks: how many there are.
        cuts, kills: what goes wrong.
        wait: seconds that the other ranks have to end on their own once one has failed.
        timeout: seconds after which all ranks are ended; None for never.

    Raises:
        SoonerError: a value out of range, or a rank that is not there.
    """

    rate: float | None = None
    loss: float = 0.0
    ranks: int = 2
    cuts: tuple[Cut, ...] = ()
    kills: tuple[Kill, ...] = ()
    wait: float = 10.0
    timeout: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.ranks <= MOST_RANKS:
            raise SoonerError(f"{self.ranks} ranks can't be run; give a number from 1 to {MOST_RANKS}")
        if self.rate is not None and not _LOWEST <= self.rate <= _HIGHEST:
            raise SoonerError(f"a rate of {self.rate:g} bit/s can't be kept; give one from 10kbit to 100gbit")
        if not 0 <= self.loss < 1:
            raise SoonerError(f"a loss of {self.loss:.4g} is no share of the packets; give 0% or more, below 100%")
        faults: tuple[Cut | Kill, ...] = (*self.cuts, *self.kills)
        for fault in faults:
            if not 0 <= fault.rank < self.ranks:
                raise SoonerError(f"there is no rank {fault.rank}; with {self.ranks} ranks they are {self._named()}")
            lengths = [fault.at] + ([fault.seconds] if isinstance(fault, Cut) and fault.seconds is not None else [])
            if not all(math.isfinite(length) and length >= 0 for length in lengths):
                raise SoonerError(
                    f"a fault at {fault.at:g} seconds can't happen; give seconds from the start, 0 or more"
                )
        for name, seconds in (("wait", self.wait), ("timeout", self.timeout)):
            if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
                raise SoonerError(f"--{name} {seconds:g} is no number of seconds; give 0 or more")

    def _named(self) -> str:
        return "0" if self.ranks == 1 else f"0 to {self.ranks - 1}"


def parse_rate(text: str) -> float:
    """Return the bits per second that text such as ``100mbit``, ``1.5 Gbit/s`` or ``512kbit`` stands for.

    Raises:
        SoonerError: it stands for none.
    """
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([kmg]?bit)(/s|ps)?", text.strip().lower())
    if not found or float(found[1]) == 0:
        raise SoonerError(f"{text!r} is no rate; write it as 100mbit, 20mbit, 512kbit or 1gbit")
    return float(found[1]) * _UNITS[found[2]]


def parse_loss(text: str) -> float:
    """Return the share that text such as ``1%`` stands for.

    Raises:
        SoonerError: it stands for none, or for one of 100 % or more.
    """
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*%", text.strip())
    if not found:
        raise SoonerError(f"{text!r} is no loss; write the percentage of lost packets, such as 1%")
    share = float(found[1]) / 100
    if share >= 1:
        raise SoonerError(f"a loss of {text} leaves no link; give one below 100%, or cut a link with --cut")
    return share


def parse_cut(text: str) -> Cut:
    """Return the cut that ``RANK@SECONDS`` or ``RANK@SECONDS:FOR`` describes.

    Raises:
        SoonerError: it describes none.
    """
    found = re.fullmatch(r"(\d+)@(\d+\.?\d*)(?::(\d+\.?\d*))?", text.strip())
    if not found:
        raise SoonerError(f"--cut {text!r} is not RANK@SECONDS or RANK@SECONDS:FOR; write it as 1@30 or 1@30:5")
    return Cut(int(found[1]), float(found[2]), float(found[3]) if found[3] else None)


def parse_kill(text: str) -> Kill:
    """Return the kill that ``RANK@SECONDS`` describes.

    Raises:
        SoonerError: it describes none.
    """
    found = re.fullmatch(r"(\d+)@(\d+\.?\d*)", text.strip())
    if not found:
        raise SoonerError(f"--kill {text!r} is not RANK@SECONDS; write it as 1@30")
    return Kill(int(found[1]), float(found[2]))


def written_rate(rate: float | None) -> str:
    """Return a rate as people write it."""
    if rate is None:
        return "no limit"
    units = ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"))
    size, unit = next(((size, unit) for size, unit in units if rate >= size), (1.0, "bit/s"))
    return f"{rate / size:g} {unit}"
