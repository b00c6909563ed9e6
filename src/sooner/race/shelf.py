"""Runs that other races beside this one have already made: the same recipe on the same task and seed is the same run.

Races against one baseline share its tuning, its targets and its seeds. A run is taken over only where everything that
decides its numbers agrees: rules, task, data, versions, processor, the source of its parts, and when it is evaluated.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sooner.error import SoonerError
from sooner.race.journal import FILE, View, read
from sooner.race.plan import Plan
from sooner.race.pool import Cell
from sooner.recipe import Recipe

_SAME = ("rules", "task", "versions", "processor", "world", "workers")


class Shelf:
    """What the finished races beside a plan's own folder offer to it.

    Args:
        plan: the race that asks.
        folder: the folder of race folders; damaged or foreign ones in it are passed over.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.identity = plan.identity()
        self._views = [view for view in views(folder) if view.folder != plan.folder() and self._comparable(view)]

    def find(self, cell: Cell) -> dict[str, Any] | None:
        """Return what an equal run recorded, or None."""
        if cell.payload["do"] != "train":
            return None
        parts = {slot.name for slot in Recipe(cell.payload["recipe"]).slots}
        for view in self._views:
            data = view.find("cell", cell.key)
            if data is None or data["steps"] != cell.payload["evaluate_at"]:
                continue
            sources = view.identity["sources"]
            if all(sources.get(name) == self.identity["sources"].get(name) for name in parts):
                return data
        return None

    def _comparable(self, view: View) -> bool:
        theirs = view.identity
        return all(theirs.get(name) == self.identity.get(name) for name in _SAME)


def views(folder: Path) -> list[View]:
    """Return the journals of the races in a folder; damaged and foreign ones are passed over."""
    found = []
    for path in sorted(folder.glob(f"*/{FILE}")):
        try:
            found.append(read(path.parent))
        except SoonerError:
            continue
    return found
