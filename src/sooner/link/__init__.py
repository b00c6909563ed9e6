"""Slow and unreliable networks on one machine: ranks behind rate-limited links, and a model of what a link costs.

    lab = Lab(rate=parse_rate("100mbit"), ranks=2)
    made = run(["python", "train.py"], lab)

Names load on first use, so importing this package is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sooner.link._counters import sent_bytes
    from sooner.link._lab import Cut, Kill, Lab, parse_cut, parse_kill, parse_loss, parse_rate
    from sooner.link._model import LinkModel
    from sooner.link._plan import plan
    from sooner.link._plan_rows import Plan, Row
    from sooner.link._run import Rank, Run, run

__all__ = [
    "Cut",
    "Kill",
    "Lab",
    "LinkModel",
    "Plan",
    "Rank",
    "Row",
    "Run",
    "parse_cut",
    "parse_kill",
    "parse_loss",
    "parse_rate",
    "plan",
    "run",
    "sent_bytes",
]

_HOMES = {
    "_counters": ("sent_bytes",),
    "_lab": ("Cut", "Kill", "Lab", "parse_cut", "parse_kill", "parse_loss", "parse_rate"),
    "_model": ("LinkModel",),
    "_plan": ("plan",),
    "_plan_rows": ("Plan", "Row"),
    "_run": ("Rank", "Run", "run"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"sooner.link.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
