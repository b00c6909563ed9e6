"""Where the published evidence lies and what its verdicts are, read without importing anything heavy."""

from __future__ import annotations

import json
from pathlib import Path

import sooner
from sooner.error import SoonerError


def folder() -> Path:
    """Return where the published evidence lies: inside an installed package, or at the top of a checkout."""
    inside = Path(sooner.__file__).parent / "evidence"
    return inside if inside.is_dir() else Path(sooner.__file__).parents[2] / "evidence"


def published() -> list[str]:
    """Return the names of the claims whose evidence is published, sorted."""
    return sorted(path.stem for path in folder().glob("*.jsonl"))


def verdict(name: str) -> str:
    """Return the verdict in the last line of a claim's published evidence, "" where there is none.

    For listings: the line is read, not checked; `_evidence.find` checks the whole file.

    Raises:
        SoonerError: that line is damaged.
    """
    path = folder() / f"{name}.jsonl"
    if not path.is_file():
        return ""
    try:
        return str(json.loads(path.read_bytes().rstrip(b"\n").rpartition(b"\n")[2])["data"]["verdict"])
    except (ValueError, KeyError, TypeError):
        raise SoonerError(
            f"{path}: its last line was changed or cut off; restore the file, or run `sooner claim {name}` again"
        ) from None
