"""Keeping a bounded number of rows of a file that may be longer than memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

MOST = 100_000
"""Rows kept of one file."""
_GOLDEN = 0.6180339887498949

Row = tuple[int, Sequence[object]]
"""The number of a row in its file, and its cells."""


@dataclass
class Thinned:
    """Rows spread evenly over all that were added, at most `MOST` of them.

    A row is kept where the fraction of its place times the golden ratio is below one over the stride: such places are
    nearly evenly apart (Weyl, 1916), and follow no period, so that runs whose rows alternate all keep their share.
    """

    stride: int = 1
    count: int = 0
    _kept: list[tuple[float, Row]] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Take a row."""
        place = self.count * _GOLDEN % 1.0
        self.count += 1
        if place * self.stride >= 1.0:
            return
        self._kept.append((place, row))
        if len(self._kept) > MOST:
            self.stride *= 2
            self._kept = [(one, kept) for one, kept in self._kept if one * self.stride < 1.0]

    @property
    def rows(self) -> list[Row]:
        """What was kept, in order."""
        return [row for _, row in self._kept]

    def note(self, name: str) -> list[str]:
        """Return what to say of a file of that name, nothing where all its rows were kept."""
        return [f"{name} has {self.count:,} rows; about every {self.stride}th was kept"] if self.stride > 1 else []


@dataclass
class Backward:
    """Counts, over all rows of a file, how often the steps of a run do not rise; thinning would hide it."""

    times: int = 0
    _last: dict[str, float] = field(default_factory=dict)

    def add(self, run: str, step: float) -> None:
        """Take the step of the next row of a run; NaN counts for nothing."""
        if step <= self._last.get(run, -1.0):
            self.times += 1
        if step == step:
            self._last[run] = step
