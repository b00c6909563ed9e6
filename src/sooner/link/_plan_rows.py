"""What a plan consists of: costs of a step, and where a codec pays. Nothing here imports PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

from sooner.link._model import LinkModel

BASELINES = ("dense", "fp16")
MOST_WORKERS = 4096
"""The largest number of workers that is looked at."""


@dataclass(frozen=True)
class Cost:
    """What one step costs a worker, averaged over a window where there is one.

    Attributes:
        averaged: payload bytes that an all-reduce carries.
        gathered: payload bytes that an all-gather carries.
        paired: payload bytes that go to partners.
        averages, gathers, pairs: how many such exchanges there are.
        seconds: in codecs and memories.
    """

    averaged: float
    gathered: float
    paired: float
    averages: float
    gathers: float
    pairs: float
    seconds: float

    @property
    def payload(self) -> float:
        """Bytes of payloads, one copy each."""
        return self.averaged + self.gathered + self.paired

    def sent(self, workers: int) -> float:
        """Bytes that leave a worker, without headers: a ring all-reduce sends its payload up to twice."""
        return self.averaged * 2 * (workers - 1) / workers + self.gathered * (workers - 1) + self.paired

    def messages(self, workers: int) -> float:
        """Messages that follow on one another: those of a ring, one after the other."""
        return (self.averages * 2 + self.gathers) * (workers - 1) + self.pairs


@dataclass(frozen=True)
class Against:
    """Where one codec pays against another.

    Attributes:
        below: bits per second below which it does, with the plan's workers; infinite for any link, 0 for none.
        workers: the largest number of workers at which it does, at the plan's rate; `MOST_WORKERS` for any, 0 for none.
    """

    below: float
    workers: int


@dataclass(frozen=True)
class Row:
    """One codec of a plan.

    Attributes:
        name: as the recipe writes it.
        cost: of a step.
        step: seconds, with the plan's link and workers.
        against: where it pays, by baseline.
    """

    name: str
    cost: Cost
    step: float
    against: dict[str, Against]


@dataclass(frozen=True)
class Plan:
    """A table of codecs.

    Attributes:
        parameters: of the model.
        own: seconds of a step that sends nothing.
        link: the link.
        workers: how many.
        rows: the codecs; the baselines come first.
        scaled: numbers in the vectors that were encoded, where the model has more.
    """

    parameters: int
    own: float
    link: LinkModel
    workers: int
    rows: tuple[Row, ...]
    scaled: int | None
