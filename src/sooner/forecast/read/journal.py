"""Race folders: the evaluation curve of every run in a race's journal."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sooner.error import SoonerError
from sooner.forecast.read.mapping import Asked
from sooner.forecast.table import Table, join, table

FILE = "journal.jsonl"


def read_journal(folder: Path, given: Asked) -> Table:
    """Return the curves of a race: a run per recipe, seed and length; the metric is the loss, or the accuracy.

    Raises:
        SoonerError: the journal can't be read, or holds no curve; columns can't be renamed here.
    """
    from sooner.race.journal import read

    if given.columns or given.where:
        raise SoonerError(f"{folder.name} is a race: runs with step and metric; leave --column and --where out")
    journal = read(folder)
    task = journal.identity.get("task", {})
    metric = str(task.get("metric", "loss"))
    column = "accuracy" if task.get("higher is better") else "error" if metric == "error" else "loss"
    curves = []
    for record in journal.all("cell"):
        pairs = zip(record.data.get("steps", []), record.data.get("values", []), strict=False)
        known = [(step, value) for step, value in pairs if value is not None and np.isfinite(value) and value > 0]
        if known:
            steps, values = np.array(known, dtype=np.float64).T
            curves.append(table(record.key, step=steps, **{column: values}))
    if not curves:
        raise SoonerError(f"the race {folder} has no finished run yet; go on with the race, then forecast")
    return join(curves).with_notes(f"{folder.name}: {len(curves)} runs of a race, {column} is its {metric}")
