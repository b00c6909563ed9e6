"""Where the worker processes of a race begin: one cell, alone or together with other processes, or of another kind.

What a cell needs is imported with the first one, so that workers which only start commands stay small.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from sooner.error import SoonerError
from sooner.race.machine import processor


def run_cell(payload: dict[str, Any], report: Callable[..., None]) -> dict[str, Any]:
    """Run one cell, together with other processes where it says so; `report` is called often, as a sign of life.

    A cell of another kind names the function that runs it, as package.module:function.

    Raises:
        SoonerError: this machine has another processor than the race, whose numbers would differ.
    """
    wanted = payload.get("processor")
    if wanted is not None and wanted != processor():
        raise SoonerError(f"this run belongs on a machine with the processor {wanted}, and this one has {processor()}")
    module, _, name = payload["do"].partition(":")
    if name:
        found: dict[str, Any] = getattr(importlib.import_module(module), name)(payload, report)
        return found
    if payload.get("world", 1) > 1:
        from sooner.race.world import run_together

        return run_together(payload, report)
    from sooner.race.cell import run_alone

    return run_alone(payload, report)
