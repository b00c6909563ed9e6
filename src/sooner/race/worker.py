"""Where the worker processes of a race begin: one cell, alone or together with other processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sooner.race.cell import run_alone
from sooner.race.world import run_together


def run_cell(payload: dict[str, Any], report: Callable[..., None]) -> dict[str, Any]:
    """Run one cell, together with other processes where it says so; `report` is called often, as a sign of life."""
    return run_together(payload, report) if payload.get("world", 1) > 1 else run_alone(payload, report)
