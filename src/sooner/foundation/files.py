"""Files that are whole under their name or not there, and on the disk when the call returns."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any


def save_whole(content: Any, path: Path, incomplete: Path) -> None:
    """Write what `torch.save` makes of the content, under another name until it is complete.

    Args:
        content: what is saved.
        path: the file; where the write fails, what had the name before is untouched.
        incomplete: the other name, in the same folder; gone when this returns or raises.

    Raises:
        OSError, RuntimeError: it can't be written; torch reports a full disk as RuntimeError.
    """
    import torch  # here, since whoever only needs `sync` does without

    try:
        with incomplete.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        incomplete.replace(path)
    finally:
        with contextlib.suppress(OSError):
            incomplete.unlink(missing_ok=True)


def sync(folder: Path) -> None:
    """Bring the names in a folder to the disk.

    Raises:
        OSError: its file system can't (some network ones).
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
