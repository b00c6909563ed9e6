"""What all sinks share: events become rows of named numbers and a few notes, whatever the tracker calls them."""

from __future__ import annotations

import abc
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sooner.watch._watch import Cell, Watch


class Sink(Watch, abc.ABC):
    """Writes what it is told to a tracker. Subclasses define `open`, `log`, `note` and `close`.

    Training numbers are named ``train/loss``, evaluations ``eval/loss``, those of a race's runs
    ``RECIPE/seed 30000/400 steps/loss``, and how contenders stand ``standing/RECIPE/ratio``.

    Args:
        place: where to write: a file, a folder or the tracker's project, as its own class says; "" for its default.
    """

    def __init__(self, place: str = "") -> None:
        self.place = place

    @abc.abstractmethod
    def open(self, about: Mapping[str, Any]) -> None:
        """Begin a run of the tracker."""

    @abc.abstractmethod
    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write numbers of one step."""

    @abc.abstractmethod
    def note(self, name: str, text: str) -> None:
        """Write a text that belongs to the whole run."""

    @abc.abstractmethod
    def close(self, outcome: Mapping[str, Any]) -> None:
        """End the run of the tracker."""

    def start(self, about: Mapping[str, Any]) -> None:
        """Begin a run of the tracker."""
        self.open(about)

    def step(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log a training step."""
        self.log(step, {f"train/{name}": value for name, value in numbers.items()})

    def evaluation(self, step: int, numbers: Mapping[str, float], cell: Cell | None = None) -> None:
        """Log an evaluation."""
        series = "eval" if cell is None else series_of(cell.key)
        self.log(step, {f"{series}/{name}": value for name, value in numbers.items()})

    def failed(self, cell: Cell, cause: str) -> None:
        """Note what failed."""
        self.note(f"failed/{series_of(cell.key)}", cause)

    def standing(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log the intervals as they narrow, at the number of seeds in place of a step."""
        for row in rows:
            told = {name: row[name] for name in ("ratio", "low", "high") if row[name] is not None}
            if told:
                self.log(row["seeds"], {f"standing/{plain(row['recipe'])}/{name}": v for name, v in told.items()})

    def verdict(self, name: str, word: str, sentence: str) -> None:
        """Note a verdict."""
        self.note(f"verdict/{plain(name)}", f"{word}: {sentence}")

    def end(self, outcome: Mapping[str, Any]) -> None:
        """End the run of the tracker."""
        self.close(outcome)


def series_of(key: str) -> str:
    """Return the name of a run's numbers: its key with "/" between its parts."""
    return "/".join(plain(part) for part in key.split(" | "))


def plain(text: str) -> str:
    """Return `text` with only what all trackers take in a name: letters, digits, blanks and ``_.-``."""
    return re.sub(r"\s+", " ", re.sub(r"[^\w.\- ]+", " ", text)).strip()


def flat(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as trackers take them: numbers, truth values and texts."""
    simple = (str, int, float, bool)
    return {key: value if isinstance(value, simple) else str(value) for key, value in about.items()}
