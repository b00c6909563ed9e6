"""A place in a task's loss that a part may fill while training: which times, which policy loss.

Where a method is one choice inside a loss (and not a change of gradients or of a known function), the loss asks its
`Place`, and a part fills it around the loss. Nothing fills it outside of training, so evaluations are as ever.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Generic, TypeVar

from sooner.error import SoonerError

Filler = TypeVar("Filler")


class Place(Generic[Filler]):
    """One such place; a module-level constant of its station.

    Args:
        name: for debugging.
    """

    def __init__(self, name: str) -> None:
        self._filled: ContextVar[_Filled[Filler] | None] = ContextVar(name, default=None)

    def ask(self) -> Filler | None:
        """Return what fills the place now, None where nothing does. For losses."""
        found = self._filled.get()
        if found is None:
            return None
        found.asked = True
        return found.by

    @contextlib.contextmanager
    def filled(self, by: Filler, unasked: str) -> Iterator[None]:
        """Inside, `by` fills the place, also where something else did outside.

        Raises:
            SoonerError: with the text `unasked`, at the end, where nothing has asked: `by` would have no effect.
        """
        mine = _Filled(by)
        before = self._filled.set(mine)
        try:
            yield
        finally:
            self._filled.reset(before)
        if not mine.asked:
            raise SoonerError(unasked)


class _Filled(Generic[Filler]):
    def __init__(self, by: Filler) -> None:
        self.by = by
        self.asked = False
