"""What has changed since evidence was made, of claims and of the lab alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sooner.race.limits import RULES


def changed_since(
    then: Mapping[str, str], now: Mapping[str, str], own: str, declared: bool, provenance: Mapping[str, Any]
) -> list[str]:
    """Return the files that are no longer what they were; empty for fresh evidence.

    Args:
        then: digest of each file at the run, or when it was last found to behave as at the run.
        now: digest of each file today.
        own: the file that declares what was run.
        declared: whether that still says what it said before the run.
        provenance: of the evidence, with the version of the race rules.
    """
    changed = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    if not declared and own not in changed:
        changed.append(own)
    return [*changed, *(["docs/race-rules.md"] if provenance.get("rules") != RULES else [])]
