"""MLflow's folders of runs: a file per metric below `metrics`, with time, value and step on each line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.read.mapping import Asked
from sooner.forecast.read.rows import gather
from sooner.forecast.read.text import opened
from sooner.forecast.read.thin import Row
from sooner.forecast.table import Table, join

METRICS = "metrics"


def mlflow_runs(folder: Path) -> list[Path]:
    """Return the folders of runs that a folder is or holds."""
    below = [folder / METRICS, *folder.glob(f"*/{METRICS}"), *folder.glob(f"*/*/{METRICS}")]
    return sorted(one.parent for one in below if one.is_dir() and (one.parent / "meta.yaml").exists())


def read_mlflow(folder: Path, given: Asked) -> Table:
    """Return the curves of MLflow runs, a run per folder, named by it.

    Raises:
        SoonerError: no run has a loss, or a line is not one of a metric.
    """
    made = []
    for run in mlflow_runs(folder):
        metrics = {str(f.relative_to(run / METRICS)): f for f in sorted((run / METRICS).rglob("*")) if f.is_file()}
        points = {name: dict(_points(file)) for name, file in metrics.items()}
        if not points:
            continue
        steps = sorted({step for one in points.values() for step in one})

        def rows(points: dict[str, dict[float, str]] = points, steps: list[float] = steps) -> Iterator[Row]:
            for number, step in enumerate(steps, start=1):
                yield number, [step, *(one.get(step) for one in points.values())]

        table = gather(run, ["step", *points], rows, given)
        made.append(Table(table.columns, np.full(len(table), run.name), table.notes, table.axis))
    if not made:
        raise SoonerError(f"no run of MLflow below {folder} has a metric; name another folder")
    return join(made)


def _points(file: Path) -> Iterator[tuple[float, str]]:
    with opened(file) as lines:
        for number, line in enumerate(lines, start=1):
            cells = line.split()
            try:
                yield float(cells[2]), cells[1]
            except (IndexError, ValueError):
                if line.endswith("\n"):
                    raise SoonerError(
                        f"line {number} of the metric {file.name} is not TIME VALUE STEP: {line[:40]!r}; mend the line"
                    ) from None
