"""trackio, which keeps runs in a local database and draws them in a page of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sooner.watch._sink import Sink, flat


class Trackio(Sink):
    """Logs to a trackio project on this machine; ``trackio show`` draws it.

    Args:
        place: the project, default ``sooner``.
    """

    def open(self, about: Mapping[str, Any]) -> None:
        """Begin a run."""
        import trackio

        self._run: Any = trackio.init(project=self.place or "sooner", config=flat(about), embed=False)
        self._notes: dict[str, Any] = {}

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write numbers of a step."""
        self._run.log(dict(numbers), step=step)

    def note(self, name: str, text: str) -> None:
        """Keep a text for the last row, as trackio has no summary."""
        self._notes[name] = text

    def close(self, outcome: Mapping[str, Any]) -> None:
        """Write what was noted and how it ended, and wait until all is stored."""
        self._run.log({**self._notes, **{f"outcome/{key}": value for key, value in flat(outcome).items()}})
        self._run.finish()
