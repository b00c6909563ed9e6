"""Weights & Biases, offline: nothing leaves the machine before you call ``wandb sync``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from sooner.watch._sink import Sink, flat


class Wandb(Sink):
    """Logs an offline run of wandb. Set ``WANDB_MODE=online`` to send it while it is written.

    Args:
        place: the project, default ``sooner``; files go where ``WANDB_DIR`` says, default ``wandb`` in this directory.
    """

    def open(self, about: Mapping[str, Any]) -> None:
        """Begin a run."""
        import wandb

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        settings = wandb.Settings(silent=True, console="off")
        self._run: Any = wandb.init(project=self.place or "sooner", mode=mode, config=flat(about), settings=settings)
        self._series: set[str] = set()

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write numbers of a step; every series has its own count of steps, as wandb's own may never go back."""
        row = {
            name.replace(".", "_"): value for name, value in numbers.items()
        }  # a dot would nest its step apart from it
        for series in sorted({name.rpartition("/")[0] for name in row}):
            if series not in self._series:
                self._series.add(series)
                self._run.define_metric(f"{series}/*", step_metric=f"{series}/step")
            row[f"{series}/step"] = step
        self._run.log(row)

    def note(self, name: str, text: str) -> None:
        """Write a text into the run's summary."""
        self._run.summary[name] = text

    def close(self, outcome: Mapping[str, Any]) -> None:
        """Write how it ended into the summary and finish the run; its file is whole when the process ends."""
        for key, value in flat(outcome).items():
            self._run.summary[f"outcome/{key}"] = value
        self._run.finish(exit_code=1 if outcome.get("error") else 0)
