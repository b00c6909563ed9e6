"""`sooner parts` and `sooner workloads`: what there is, and what one of them is."""

from __future__ import annotations

import itertools

from rich.console import Console
from rich.table import Table

from sooner import lab, part, workloads
from sooner.claims._published import verdict


def list_parts() -> None:
    """Print every part with its station, one sentence and its claim's verdict, without importing PyTorch."""
    rows = sorted(part.names().items(), key=lambda item: (part.STATIONS.index(item[1]), item[0]))
    grid = Table("part", "what it does", box=None, pad_edge=False)
    grid.add_column("claim", max_width=len("reproduced in part"))
    for station, group in itertools.groupby(rows, key=lambda item: item[1]):
        grid.add_row(f"[bold]{station}[/bold]")
        for name, _ in group:
            grid.add_row(f"  {name}", part.summary(name), verdict(name) or "not run yet")
    console = Console(highlight=False)
    console.print(grid)
    console.print(f"\n{len(rows)} parts; `sooner explain NAME` shows the card of one", markup=False, soft_wrap=True)


def describe_part(name: str) -> None:
    """Print the card of a part and how a recipe resolves it."""
    from sooner.report.part_card import card, resolved

    console = Console(highlight=False)
    console.print(card(name))
    console.print(f"\n{resolved(name)}", markup=False, soft_wrap=True)


def list_workloads() -> None:
    """Print every bundled workload, one sentence on it, and which known truths the published evidence shows on it."""
    grid = Table("workload", "what it is", "known truths", box=None, pad_edge=False)
    for name in workloads.names():
        held_back = " Held back: no default was chosen on it." if name in workloads.HELD_BACK else ""
        grid.add_row(name, workloads.summary(name) + held_back, known_truths(name))
    Console(highlight=False).print(grid)


def known_truths(workload: str) -> str:
    """Return what the lab shows on a workload and what it does not, in words; empty where it was not looked at."""
    words = {"shows": lab.shows(workload), "does not show": lab.does_not_show(workload)}
    return "; ".join(f"{verb}: {', '.join(truths)}" for verb, truths in words.items() if truths)


def describe_workload(spec: str) -> None:
    """Check a workload as a race would, and print what it is."""
    from sooner.task import check

    task = workloads.find(spec)
    facts = check(task)
    print(f"{task.name}: {task.description}")
    better = "higher" if task.higher_is_better else "lower"
    print(f"{facts['parameters']:,} parameters, {task.steps} steps, metric {task.metric} ({better} is better)")
    if known := known_truths(task.name):
        print(known)
    print(f"data: {facts['data'] or 'no description (define fingerprint() to give one)'}, {facts['fingerprint']}")
