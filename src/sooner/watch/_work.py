"""How much of a race is done and how much is left, as its cells begin and end: what estimates are made of."""

from __future__ import annotations

from collections.abc import Sequence

from sooner.watch._watch import Cell


class Work:
    """Counts in training steps. What only turns out to be needed later is not in it.

    Attributes:
        running: per running cell of the phase the fraction that is done.
        ended: the cells of the phase that have ended.
        of: number of the phase's cells.
        spent: steps of all cells that have ended.
    """

    def __init__(self) -> None:
        self.running: dict[str, float] = {}
        self.ended: set[str] = set()
        self.of = 0
        self.spent = 0.0
        self._weights: dict[str, float] = {}
        self._ahead = 0.0

    def phase(self, cells: Sequence[Cell], later: float) -> None:
        """Begin a phase with these cells; `later` is the work that is planned after it."""
        self._weights = {cell.key: cell.weight for cell in cells}
        self.running, self.ended, self.of = {}, set(), len(self._weights)
        self._ahead = sum(self._weights.values()) + later

    def progress(self, cell: Cell, fraction: float) -> None:
        """Note how far a running cell is; it never goes back."""
        self.running[cell.key] = max(fraction, self.running.get(cell.key, 0.0))

    def end(self, cell: Cell) -> None:
        """Take a cell that has finished or failed off what is left."""
        self.running.pop(cell.key, None)
        self.ended.add(cell.key)
        weight = self._weights.get(cell.key, 0.0)
        self.spent += weight
        self._ahead -= weight

    @property
    def now(self) -> float:
        """Steps done by the cells that are running."""
        return sum(fraction * self._weights.get(key, 0.0) for key, fraction in self.running.items())

    @property
    def left(self) -> float:
        """Steps known to be left, at least 0."""
        return max(0.0, self._ahead - self.now)
