"""Scalars in TensorBoard's event files, through PyTorch's own writer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sooner.watch._sink import Sink, flat, plain


class TensorBoard(Sink):
    """Writes a folder that ``tensorboard --logdir`` shows.

    Args:
        place: folder of all runs, default ``runs``; each run gets a folder of its own in it.
    """

    def open(self, about: Mapping[str, Any]) -> None:
        """Make the folder and write the settings as a text."""
        from torch.utils.tensorboard import SummaryWriter

        name = f"{plain(str(about.get('name', 'run')))}-{time.strftime('%Y%m%d-%H%M%S')}"
        folder = Path(self.place or "runs") / name
        number = 1
        while folder.exists():  # two within one second
            number += 1
            folder = folder.with_name(f"{name}-{number}")
        self.folder = folder
        self._writer: Any = SummaryWriter(str(folder))
        self.note("settings", "\n\n".join(f"{key}: {value}" for key, value in flat(about).items()))

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write scalars; NaN and infinities too."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def note(self, name: str, text: str) -> None:
        """Write a text."""
        self._writer.add_text(name, text)

    def close(self, outcome: Mapping[str, Any]) -> None:
        """Write how it ended and close the file."""
        self.note("outcome", "\n\n".join(f"{key}: {value}" for key, value in flat(outcome).items()))
        self._writer.close()
