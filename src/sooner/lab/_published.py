"""What the published evidence of the lab says in its last lines, read without importing anything heavy."""

from __future__ import annotations

import json
from pathlib import Path

from sooner.claims import _published
from sooner.error import SoonerError


def folder() -> Path:
    """Return where the published evidence of the lab lies."""
    return _published.folder() / "lab"


def summary() -> dict[str, dict[str, bool]]:
    """Return ``{truth: {workload: whether it is shown there}}`` of all published evidence.

    For listings: last lines are read, not checked; `_evidence.find` checks the whole file.

    Raises:
        SoonerError: the last line of a file is damaged.
    """
    return {path.stem: _last(path) for path in sorted(folder().glob("*.jsonl"))}


def _last(path: Path) -> dict[str, bool]:
    try:
        found = json.loads(path.read_bytes().rstrip(b"\n").rpartition(b"\n")[2])["data"]["shown"]
        return {str(workload): bool(shown) for workload, shown in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SoonerError(
            f"{path}: its last line was changed or cut off; restore the file, or run `sooner lab {path.stem}` again"
        ) from None
