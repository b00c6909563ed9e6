"""`sooner parts` and `sooner workloads`: what there is, and what one of them is."""

from __future__ import annotations

import inspect
import itertools

from rich.console import Console
from rich.table import Table

from sooner import part, workloads


def list_parts() -> None:
    """Print every part with its station and one sentence, without importing PyTorch."""
    rows = sorted(part.names().items(), key=lambda item: (part.STATIONS.index(item[1]), item[0]))
    grid = Table("station", "part", "what it does", box=None, pad_edge=False)
    for station, group in itertools.groupby(rows, key=lambda item: item[1]):
        for i, (name, _) in enumerate(group):
            grid.add_row(station if i == 0 else "", name, part.summary(name))
    Console(highlight=False).print(grid)


def describe_part(name: str) -> None:
    """Print the method, its settings and its tuning space."""
    from sooner.recipe import explain

    found = part.load(name)
    print(inspect.getdoc(inspect.getmodule(found)))
    print()
    print(inspect.getdoc(found))
    print()
    print(explain(name if found.station == "update" else f"sgd + {name}").splitlines()[-1].strip())


def list_workloads() -> None:
    """Print every bundled workload and one sentence on it."""
    grid = Table("workload", "what it is", box=None, pad_edge=False)
    for name in workloads.names():
        grid.add_row(name, workloads.summary(name))
    Console(highlight=False).print(grid)


def describe_workload(spec: str) -> None:
    """Check a workload as a race would, and print what it is."""
    from sooner.task import check

    task = workloads.find(spec)
    facts = check(task)
    print(f"{task.name}: {task.description}")
    better = "higher" if task.higher_is_better else "lower"
    print(f"{facts['parameters']:,} parameters, {task.steps} steps, metric {task.metric} ({better} is better)")
    print(f"data: {facts['data'] or 'no description (define fingerprint() to give one)'}, {facts['fingerprint']}")
