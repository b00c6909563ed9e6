"""What a worker process does with one cell of a study: a measurement of its file, or a run of its race."""

from __future__ import annotations

import pkgutil
import threading
from collections.abc import Callable
from typing import Any

import torch

from sooner.claims import _fingerprint
from sooner.claims._claim import Measurement
from sooner.race import worker

Report = Callable[..., None]

_BEAT_SECONDS = 10.0


def run_cell(payload: dict[str, Any], report: Report) -> dict[str, Any]:
    """Run one cell; `report` is called often, as a sign of life."""
    if payload["do"] not in ("measure", "fingerprint"):
        return worker.run_cell(payload, report)
    measure = None
    if "finder" in payload:
        experiment = pkgutil.resolve_name(payload["finder"])(payload["name"]).experiments[payload["experiment"]]
        assert isinstance(experiment, Measurement)
        measure = experiment.measure
    torch.manual_seed(0)  # a measurement draws what it needs from its case; this is for the careless
    stopped = threading.Event()
    beat = threading.Thread(target=_beat, args=(stopped, report), daemon=True)
    beat.start()
    try:
        if payload["do"] == "fingerprint":
            return _fingerprint.run(payload, measure)
        assert measure is not None
        return dict(measure(**payload["case"]))
    finally:
        stopped.set()
        beat.join()


def _beat(stopped: threading.Event, report: Report) -> None:
    while not stopped.wait(_BEAT_SECONDS):
        report(0.0)
