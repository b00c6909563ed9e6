"""`sooner race --power`: how many seeds and steps an effect needs, and what the race as typed would see."""

from __future__ import annotations

import json
import math
from typing import Any

from rich.console import Console
from rich.table import Table

from sooner.cli.progress import stoppable
from sooner.error import SoonerError
from sooner.race.pilot import outlook, pilot, pilot_of
from sooner.race.planned import Planned
from sooner.race.pool import Pool
from sooner.race.statistics.planning import MOST
from sooner.report.numbers import EMPTY, count, number, times

LEAST, HIGHEST = 0.5, 0.99


def check_power(power: float | None, effect: float | None) -> None:
    """Refuse a chance or an effect that means nothing.

    Raises:
        SoonerError: says which.
    """
    if power is not None and not LEAST <= power <= HIGHEST:
        raise SoonerError(f"--power {power} is the chance of seeing an effect; choose one from {LEAST} to {HIGHEST}")
    if effect is None:
        return
    if power is None:
        raise SoonerError(f"--effect {effect} is what --power asks about; give both, such as --power 0.9 --effect 0.85")
    if not 0.01 <= effect < 1:
        raise SoonerError(f"--effect {effect} is a ratio of steps to the target; choose one from 0.01 to below 1")


def show_power(
    plan: Planned, power: float, effect: float | None, console: Console, workers: Pool | None = None, *, as_json: bool
) -> None:
    """Run the pilot where it is needed, and print what effects need. No race is run.

    Raises:
        SoonerError: the pilot can't run.
    """
    with stoppable(
        console, plan.jobs, lambda: f"what the pilot has run is kept in {pilot_of(plan).folder()}"
    ) as progress:
        known = pilot(plan, progress, workers)
    found = outlook(plan, known, power, effect)
    if as_json:
        print(json.dumps(found, indent=1, allow_nan=False))
        return
    out = Console(highlight=False)
    out.print(grid(found))
    for line in lines(found, plan.budget):
        out.print(line, soft_wrap=True, markup=False)


def grid(found: dict[str, Any]) -> Table:
    """Return the table: for each budget and effect the seeds, what they cost, and the chance with the race as typed."""
    last = found["looks"][-1]
    until = f"up to {last}" if found["until"] else f"{last}"
    table = Table(box=None, pad_edge=False)
    heads = ["steps", "effect", f"seeds for {found['power']:.0%}", "CPU minutes", f"chance with {until} seeds"]
    if found["until"]:
        heads.insert(3, "seeds on average")
    for head in heads:
        table.add_column(head, justify="right")
    for budget in found["budgets"]:
        for row in budget["effects"]:
            seeds = f"over {MOST}" if row["seeds"] is None else count(row["seeds"])
            cells = [count(budget["steps"]), times(row["ratio"]), seeds]
            if found["until"]:
                cells.append(EMPTY if row["mean_seeds"] is None else number(row["mean_seeds"]))
            minutes = EMPTY if row["cpu_minutes"] is None else number(row["cpu_minutes"], 2)
            table.add_row(*cells, minutes, f"{row['power_as_planned']:.0%}")
    return table


def lines(found: dict[str, Any], steps: int) -> list[str]:
    """Return the sentences under the table."""
    told = []
    for budget in found["budgets"]:
        if budget["sd_log_ratio"] is None:
            told.append(
                f"{count(budget['steps'])} steps are too few: {budget['hits']} of {budget['runs']} runs of the "
                "baseline reach the middle target."
            )
    here = next(b for b in found["budgets"] if b["steps"] == steps)
    last = found["looks"][-1]
    sees = [] if here["visible"] is None else [f"a ratio of {times(here['visible'])} of the steps or less"]
    if here["visible_final_difference"] is not None:
        sees.append(
            f"a difference of {number(here['visible_final_difference'], 2)} in {found['metric']} at the end (80 %)"
        )
    told.append(
        f"As typed, {count(steps)} steps and {'up to ' if found['until'] else ''}{last} seeds, the race would see "
        f"{' or '.join(sees) or 'nothing'}, in {number(here['cpu_minutes_as_planned'], 2)} CPU minutes of training."
    )
    if here["sd_log_ratio"] is not None:
        rivals = len(found["recipes"]) - 1
        told.append(
            "By luck, one paired ratio differs from the next by a factor of "
            f"{number(math.exp(here['sd_log_ratio']), 3)} (from {here['source']}). With {rivals} contender"
            f"{'s' * (rivals != 1)} and these looks each must meet p <= {number(found['level'], 2)}."
        )
    if found["effect"] is not None:
        told.append(_cheapest(found))
    return told


def _cheapest(found: dict[str, Any]) -> str:
    """Return the sentence on the wanted effect: the steps with which it costs least, and what to type."""
    rows = [(row, b["steps"]) for b in found["budgets"] for row in b["effects"] if row["ratio"] == found["effect"]]
    able = [(row["cpu_minutes"], steps, row) for row, steps in rows if row["seeds"] is not None]
    wanted = f"{times(found['effect'])} of the steps with a chance of {found['power']:.0%}"
    if not able:
        return f"To see {wanted}, {MOST} seeds are too few at every budget looked at; ask for a larger effect."
    minutes, steps, row = min(able, key=lambda one: one[:2])
    series = found["series"] + (1 if found["seeds_seen"] else 0)  # seeds that were looked at can't be looked at anew
    options = {
        "steps": steps,
        "until" if found["until"] else "seeds": row["seeds"],
        **({"series": series} if series else {}),
    }
    typed = " ".join(f"--{name} {value}" for name, value in options.items())
    return f"To see {wanted}, the cheapest is this race with {typed} ({number(minutes, 2)} CPU minutes of training)."
