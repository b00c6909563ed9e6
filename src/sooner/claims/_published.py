"""Where the published evidence lies and what its verdicts are, read without importing anything heavy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import sooner
from sooner.error import SoonerError


def folder() -> Path:
    """Return where the published evidence lies: inside an installed package, or at the top of a checkout."""
    inside = Path(sooner.__file__).parent / "evidence"
    return inside if inside.is_dir() else Path(sooner.__file__).parents[2] / "evidence"


def published() -> list[str]:
    """Return the names of the claims whose evidence is published, sorted."""
    return sorted(path.stem for path in folder().glob("*.jsonl"))


def today(verdict: Any) -> Any:
    """Return what a verdict of the first layout comes to today: it had no positive control, so it had no negative."""
    return "not testable at this size" if verdict == "not reproduced here" else verdict


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
        first, *_, last = path.read_bytes().rstrip(b"\n").split(b"\n")
        found = str(json.loads(last)["data"]["verdict"])
        return today(found) if json.loads(first)["data"]["format"] == 1 else found
    except (ValueError, KeyError, TypeError):
        raise SoonerError(
            f"{path}: its first or last line was changed or cut off; restore the file, or run `sooner claim {name}` "
            "again"
        ) from None
