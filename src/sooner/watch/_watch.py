"""What whoever watches is told, and how several watch together without being able to do harm."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol


class Cell(Protocol):
    """One run of a race, as its watchers see it.

    Attributes:
        key: what it is, such as ``"muon(lr=0.02) | seed 30000 | 400 steps"``; the same in the journal.
        payload: what the worker gets.
        weight: how much work it is, in training steps.
    """

    @property
    def key(self) -> str: ...

    @property
    def payload(self) -> dict[str, Any]: ...

    @property
    def weight(self) -> float: ...


class Watch:
    """What is told to whoever watches. This one says nothing; define the methods that you want to hear.

    A run of `sooner.train` or of a simulated cluster tells `start`, `step`, `evaluation` and `end`. A race tells
    `start`, then for every phase `phase` and for every run in it `progress`, `evaluation`, and `finished` or `failed`,
    then `standing` while contenders race, `verdict` for each of them, and `end`. A claim tells the same, with the races
    and measurements that it consists of as phases. Steps of a race's runs are not told: they happen in other processes.

    Numbers are Python floats, also NaN and infinite ones; nothing that is passed may be changed.
    """

    def start(self, about: Mapping[str, Any]) -> None:
        """Something begins or is resumed.

        Args:
            about: ``kind`` ("train", "cluster", "race" or "claim"), ``name`` of the task or claim, and what else there
                is to say: recipe or recipes, seed, steps, metric, the step it goes on from, the folder.
        """

    def step(self, step: int, numbers: Mapping[str, float]) -> None:
        """A training step that is logged has been taken; it is told late, when its numbers have come off the device.

        Args:
            step: its number, counted from 1.
            numbers: ``loss`` before the step; ``lr`` that it was taken with, or ``lr/NAME`` per optimizer where they
                differ; ``gradient_norm``, the global L2 norm before clipping; ``seconds`` of wall time per step since
                the last one that was logged, evaluations and checkpoints left out.
        """

    def evaluation(self, step: int, numbers: Mapping[str, float], cell: Cell | None = None) -> None:
        """The evaluation weights were measured after `step` steps; in a race, those of the run `cell`."""

    def phase(self, name: str, cells: Sequence[Cell], later: float) -> None:
        """A phase of a race begins with these runs to make; `later` is the work planned after it, in steps."""

    def progress(self, cell: Cell, fraction: float, info: Mapping[str, Any]) -> None:
        """A run of a race has come this far, between 0 and 1; without `info` it is a bare sign of life."""

    def finished(self, cell: Cell, data: Mapping[str, Any]) -> None:
        """A run of a race has finished and is in the journal."""

    def failed(self, cell: Cell, cause: str) -> None:
        """A run of a race has failed for good."""

    def standing(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """How contenders stand while they race: no verdict, which falls at the declared looks only.

        Args:
            rows: per contender ``recipe``, ``tuned_recipe``, ``seeds`` so far, and ``ratio``, ``low``, ``high`` of its
                steps to the primary target over the baseline's; None is infinite.
        """

    def verdict(self, name: str, word: str, sentence: str) -> None:
        """A contender or a claim has its verdict."""

    def end(self, outcome: Mapping[str, Any]) -> None:
        """What began has ended.

        Args:
            outcome: plain numbers and texts; ``error`` is the sentence on what stopped it, where something did.
        """


class Several(Watch):
    """Tells several watchers in turn. One that raises an exception is told of once, in a warning, and left out.

    Args:
        watchers: any number of them.
    """

    def __init__(self, watchers: Iterable[Watch]) -> None:
        self.watchers = list(watchers)

    def _tell(self, event: str, *told: Any) -> None:
        for one in list(self.watchers):
            try:
                getattr(one, event)(*told)
            except Exception as error:  # whatever it is, it must not cost a training run
                self.watchers.remove(one)
                what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                warnings.warn(
                    f"{type(one).__name__} failed at {event} ({what}) and is told nothing more; what it watched goes "
                    "on",
                    stacklevel=2,
                )

    def start(self, about: Mapping[str, Any]) -> None:
        """Pass it on."""
        self._tell("start", about)

    def step(self, step: int, numbers: Mapping[str, float]) -> None:
        """Pass it on."""
        self._tell("step", step, numbers)

    def evaluation(self, step: int, numbers: Mapping[str, float], cell: Cell | None = None) -> None:
        """Pass it on."""
        self._tell("evaluation", step, numbers, cell)

    def phase(self, name: str, cells: Sequence[Cell], later: float) -> None:
        """Pass it on."""
        self._tell("phase", name, cells, later)

    def progress(self, cell: Cell, fraction: float, info: Mapping[str, Any]) -> None:
        """Pass it on."""
        self._tell("progress", cell, fraction, info)

    def finished(self, cell: Cell, data: Mapping[str, Any]) -> None:
        """Pass it on."""
        self._tell("finished", cell, data)

    def failed(self, cell: Cell, cause: str) -> None:
        """Pass it on."""
        self._tell("failed", cell, cause)

    def standing(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Pass it on."""
        self._tell("standing", rows)

    def verdict(self, name: str, word: str, sentence: str) -> None:
        """Pass it on."""
        self._tell("verdict", name, word, sentence)

    def end(self, outcome: Mapping[str, Any]) -> None:
        """Pass it on."""
        self._tell("end", outcome)

    def wants(self, event: str) -> bool:
        """Return whether anybody hears of an event: what costs something to find out is left out where nobody does."""
        return any(
            one.wants(event) if isinstance(one, Several) else getattr(type(one), event) is not getattr(Watch, event)
            for one in self.watchers
        )


class Within(Several):
    """What a part of something larger tells: everything but its own start and end.

    Args:
        whole: those who watch the whole.
    """

    def __init__(self, whole: Several) -> None:
        super().__init__(())
        self.watchers = whole.watchers  # the same list: who fails here is left out there too

    def start(self, about: Mapping[str, Any]) -> None:
        """Keep it back: the whole has started already."""

    def end(self, outcome: Mapping[str, Any]) -> None:
        """Keep it back: the whole goes on."""
