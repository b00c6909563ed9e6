"""What a worker process does with one cell of a study: a measurement of its file, or a run of its race."""

from __future__ import annotations

import json
import pkgutil
import threading
from collections.abc import Callable
from typing import Any

import torch

from sooner.claims import _code
from sooner.claims._claim import Measurement, Race
from sooner.claims._fingerprint import shortened
from sooner.cluster import ClusterRun, train_cluster
from sooner.loop import Run, train
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
        if measure is None:
            return _first_steps(payload)
        values = dict(measure(**payload["case"]))
        return values if payload["do"] == "measure" else _kept(values)
    finally:
        stopped.set()
        beat.join()


def _first_steps(payload: dict[str, Any]) -> dict[str, Any]:
    """Return losses of an arm's first steps, and where they lead."""
    race, steps = Race(**payload["race"]), payload["steps"]
    task, common = _code.task_of(race), {"seed": payload["seed"], "steps": steps, "evaluate_at": [steps]}
    run: ClusterRun | Run
    if race.workers > 1:
        run = train_cluster(task, payload["recipe"], workers=race.workers, **common)
    else:
        run = train(task, payload["recipe"], **common)
    return {"losses": shortened([float(f"{value:.9g}") for value in run.losses.tolist()]), "end": run.values}


def _kept(values: dict[str, Any]) -> dict[str, Any]:
    return {name: shortened(value) for name, value in json.loads(json.dumps(values)).items()}  # as it is read back


def _beat(stopped: threading.Event, report: Report) -> None:
    while not stopped.wait(_BEAT_SECONDS):
        report(0.0)
