"""What there is to see of a race that may be running, read from its folder without disturbing it."""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import time
from pathlib import Path
from typing import Any

from sooner.error import SoonerError
from sooner.foundation.strict_json import strict
from sooner.race.journal import FILE as JOURNAL
from sooner.race.journal import View, read
from sooner.watch.pulse import FILE as PULSE
from sooner.watch.pulse import STOP

SHOWN = ("racing", "target")
"""What curves are drawn of: the racing runs, and the baseline's target runs before there are any."""


class Folder:
    """A race's folder, as whoever looks on sees it.

    Args:
        path: the folder.

    Raises:
        SoonerError: there is no race in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int] | None = None
        self._view: View = self.view()

    def view(self) -> View:
        """Return the journal, read anew only where it has changed."""
        stamp = None
        with contextlib.suppress(OSError):  # `read` says what is wrong
            status = (self.path / JOURNAL).stat()
            stamp = (status.st_size, status.st_mtime_ns)
        if stamp is None or stamp != self._stamp:
            self._view, self._stamp = read(self.path), stamp
        return self._view

    def pulse(self) -> dict[str, Any]:
        """Return what the race last told; nothing where it never did."""
        try:
            found = json.loads((self.path / PULSE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def result(self) -> dict[str, Any] | None:
        """Return the result, once the race has ended."""
        return self.view().find("result", "result")

    def state(self, have: int = 0) -> dict[str, Any]:
        """Return all that the page shows, as JSON without numbers that are not finite.

        Args:
            have: number of finished curves that the page has already; later ones are sent only.
        """
        view, pulse = self.view(), self.pulse()
        about = pulse.get("about", {})
        purposes, identity, result = about.get("purposes", {}), view.identity, self.result()
        curves = _curves(view, purposes)
        state = {
            "name": identity.get("task", {}).get("name", ""),
            "metric": identity.get("task", {}).get("metric", "loss"),
            "recipes": identity.get("recipes", []),
            "looks": about.get("looks", identity.get("looks", [])),
            "until": about.get("until"),
            "finished": result is not None,
            "alive": self.alive(pulse),
            "phase": pulse.get("phase", ""),
            "cells": pulse.get("cells", {"done": 0, "of": 0}),
            "cells_kept": len(view.all("cell")),
            "done": pulse.get("spent", 0.0) + pulse.get("now", 0.0),
            "left": pulse.get("left", 0.0),
            "seconds_left": _seconds_left(pulse),
            "running": [
                {"cell": key, "purpose": _purpose(key, purposes), **run}
                for key, run in pulse.get("running", {}).items()
            ],
            "standing": pulse.get("standing", []),
            "failed": pulse.get("failed", []),
            "verdicts": [
                {name: one[name] for name in ("recipe", "verdict", "sentence")}
                for one in (result or {}).get("contenders", [])
            ],
            "error": (pulse.get("outcome") or {}).get("error"),
            "curves": curves[have:] if have <= len(curves) else curves,
            "curves_from": have if have <= len(curves) else 0,
        }
        shown: dict[str, Any] = strict(state, lambda number: None)
        return shown

    @staticmethod
    def alive(pulse: dict[str, Any]) -> bool:
        """Return whether the process that told is still there; of another machine, whether it told of late."""
        if not pulse or pulse.get("outcome") is not None:
            return False
        if pulse.get("host") != socket.gethostname():
            return bool(time.time() - pulse.get("updated", 0.0) < 60)
        try:
            os.kill(int(pulse["pid"]), 0)
        except (OSError, KeyError, ValueError):
            return False
        return True

    def stop(self) -> None:
        """Ask the race to stop as at Ctrl-C: what is finished is kept, and the same command goes on from there.

        Raises:
            SoonerError: no race is running here, or nobody may write into its folder.
        """
        if not self.alive(self.pulse()):
            raise SoonerError("no race is running in this folder")
        try:
            (self.path / STOP).touch()
        except OSError as error:
            raise SoonerError(
                f"cannot write into {self.path} ({error.strerror}): stop the race where it runs"
            ) from None


def _seconds_left(pulse: dict[str, Any]) -> float | None:
    """Return the work left at the pace of this session, None before there is one."""
    done = pulse.get("spent", 0.0) + pulse.get("now", 0.0)
    elapsed = pulse.get("updated", 0.0) - pulse.get("began", 0.0)
    return pulse["left"] / done * elapsed if done > 0 and elapsed >= 5 and "left" in pulse else None


def _curves(view: View, purposes: dict[str, list[int]]) -> list[dict[str, Any]]:
    """Return the finished runs that are drawn, in the order in which they finished."""
    found = []
    for record in view.all("cell"):
        purpose = _purpose(record.key, purposes)
        if purpose in SHOWN and "values" in record.data:  # costs and memory have no curve
            recipe, seed, _ = record.key.rsplit(" | ", 2)
            data = {"steps": record.data["steps"], "values": [_short(value) for value in record.data["values"]]}
            found.append({"recipe": recipe, "seed": seed, "purpose": purpose, **data})
    return found


def _purpose(key: str, purposes: dict[str, list[int]]) -> str:
    """Return what a run is for, by its seed: "tuning", "target", "racing" or "a/a"; "" for what is no run."""
    parts = key.rsplit(" | ", 2)
    if len(parts) != 3 or not parts[1].startswith("seed "):
        return ""
    seed = int(parts[1].removeprefix("seed "))
    return next((name for name, (first, last) in purposes.items() if first <= seed <= last), "")


def _short(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None
