"""Runs of two or more arms at several sizes: from races, or from a table with arm, size, steps, loss and seed."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sooner.error import SoonerError, nearest
from sooner.forecast.families import Arm, Family
from sooner.forecast.read import read
from sooner.forecast.read.journal import FILE
from sooner.forecast.read.kinds import ENDINGS
from sooner.forecast.read.names import ALIASES, plain
from sooner.forecast.read.text import opened
from sooner.forecast.table import listed

Curves = dict[str, dict[float, float]]
"""Losses by step, by seed."""


@dataclass
class Arms:
    """What ran.

    Args:
        curves: by (size, length), where the length is that of the race or None for a table, and by arm.
        names: of the arms, the baseline of the first race or the first of the table in front.
        notes: what was read and left out.
    """

    curves: dict[tuple[float, float | None], dict[str, Curves]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(
        self, size: float, length: float | None, arm: str, seed: str, points: Iterable[tuple[float, float]]
    ) -> None:
        """Take a run, or more of one."""
        self.names += [arm] if arm not in self.names else []
        seeds = self.curves.setdefault((size, length), {}).setdefault(arm, {})
        seeds.setdefault(seed, {}).update(points)

    def families(self, baseline: str, contender: str) -> tuple[list[Family], list[str]]:
        """Return the families that hold both arms, smallest first, and what was left out.

        Raises:
            SoonerError: an arm is unknown, or no size has both.
        """
        for name in (baseline, contender):
            if name not in self.names:
                raise SoonerError(
                    f"there is no arm {name!r}{nearest(name, self.names)}; the arms are {', '.join(self.names)}"
                )
        if baseline == contender:
            raise SoonerError(f"baseline and contender are both {baseline!r}; name two arms")
        found: list[Family] = []
        notes: list[str] = []
        for (size, length), arms in sorted(self.curves.items(), key=lambda one: (one[0][0], one[0][1] or 0.0)):
            if baseline in arms and contender in arms:
                pair = [_complete(arms[name], f"{name} at size {size:g}", notes) for name in (baseline, contender)]
                shared = [seed for seed in pair[0] if seed in pair[1]]
                if len(shared) > 1 or len(pair[0]) == len(pair[1]) == 1:
                    pair = [{seed: one[seed] for seed in shared} for one in pair] if len(shared) > 1 else pair
                made = [
                    _arm(one, f"{name} at size {size:g}") for name, one in zip((baseline, contender), pair, strict=True)
                ]
                ends = min(made[0].steps[-1], made[1].steps[-1])
                found.append(Family(size, float(ends if length is None else length), *made))
            else:
                missing = contender if baseline in arms else baseline
                notes.append(f"size {size:g} was left out: {missing} has no run there")
        if not found:
            raise SoonerError(f"no size has runs of both {baseline} and {contender}; race them together")
        return found, notes


def read_arms(
    paths: Sequence[Path], *, columns: Mapping[str, str] | None = None, where: Mapping[str, str] | None = None
) -> Arms:
    """Return the runs of races (a folder, or a folder of such folders) and of tables.

    Args:
        paths: what to read.
        columns: heading by column, for tables: arm, size, step, loss, seed, length.
        where: the text that the cells under a heading must be, for tables.

    Raises:
        SoonerError: nothing to read, a race that is not finished, or a table without arms or sizes.
    """
    made = Arms()
    for path in map(Path, paths):
        if path.is_dir():
            folders = sorted(file.parent for file in path.rglob(FILE))
            tables = sorted(f for f in path.iterdir() if f.suffix in ENDINGS and f.name != FILE)
            if not folders and not tables:
                raise SoonerError(f"the folder {path} holds neither a race nor a table; name another")
            for folder in folders:
                _race(folder, made)
            if folders:
                continue
        else:
            tables = [path]
        for table in tables:
            _table(table, made, dict(columns or {}), dict(where or {}))
    if not made.curves:
        raise SoonerError("name at least one folder of races, or a table with arm, size, steps, loss and seed")
    return made


def _race(folder: Path, made: Arms) -> None:
    from sooner.race.journal import read as read_race

    journal = read_race(folder)
    result = journal.find("result", "result")
    if result is None:
        raise SoonerError(f"the race in {folder} is not finished; go on with the command that started it")
    if result["task"]["parameters"] is None:
        raise SoonerError(f"the race in {folder} is one of commands, which do not say how large their models are")
    size = float(result["task"]["parameters"])
    sign = -1.0 if result["task"]["higher_is_better"] else 1.0
    for row in result["contenders"]:
        if row["status"] != "raced":
            made.notes.append(f"{row['recipe']} is out of the race at size {size:g}: {row['why_out']}")
            continue
        for seed in result["seeds"]["racing"][: row["seeds"]]:
            points = _points(journal, row["tuned_recipe"], seed, result)
            made.add(size, float(result["task"]["steps"]), row["recipe"], str(seed), [(s, sign * v) for s, v in points])


def _points(journal: Any, recipe: str, seed: int, result: dict[str, Any]) -> list[tuple[float, float]]:
    """Return the values of a run; in the budgeted regime the last one of each length, which is what decays."""
    cells = {h: journal.find("cell", f"{recipe} | seed {seed} | {h} steps") for h in result["horizons"]}
    longest = cells[result["horizons"][-1]]
    whole = {} if longest is None else dict(zip(longest["steps"], longest["values"], strict=True))
    if result["regime"] == "anytime":
        pairs = list(whole.items())
    else:
        finals = {
            h: whole if cell is None else dict(zip(cell["steps"], cell["values"], strict=True))
            for h, cell in cells.items()
        }
        pairs = [(h, values.get(h)) for h, values in finals.items()]
    return [(float(s), float(v)) for s, v in pairs if s > 0 and v is not None and np.isfinite(v)]


def _table(path: Path, made: Arms, columns: dict[str, str], where: dict[str, str]) -> None:
    headings = _headings(path)
    arm, seed = columns.pop("arm", "arm"), columns.pop("seed", "seed")
    length = columns.pop("length", "length")
    asked = columns.pop("size", None) or columns.get("parameters")
    sizes = [h for h in headings if plain(h) in ALIASES["parameters"]] if asked is None else [asked]
    for heading, what in ((arm, "arm"), (sizes[0] if sizes else "size", "size")):
        if heading not in headings:
            raise SoonerError(
                f"{path.name} has no heading {heading!r}{nearest(heading, headings)}, which tells the {what}s apart; "
                f"name it with --column {what}=HEADING (it has {listed(headings)})"
            )
    size = sizes[0]
    apart = [arm, size, *(h for h in (length, seed) if h in headings)]
    rows = read([path], columns={**columns, "parameters": size, "run": "+".join(apart)}, where=where)
    rows = rows.require("step", "loss")
    made.notes += list(rows.notes)
    for name, run in rows.each_run():
        cells = name.rsplit("/", len(apart) - 1)
        points = zip(run["step"].tolist(), run["loss"].tolist(), strict=True)
        planned = float(run[length][0]) if length in run else None
        made.add(
            float(run["parameters"][0]),
            planned,
            cells[0],
            cells[-1] if seed in headings else "1",
            [p for p in points if p[0] > 0],
        )


def _headings(path: Path) -> list[str]:
    """Return the headings of a table, or the fields of its first object."""
    if not path.exists():
        raise SoonerError(f"there is no file {path}; name one that is there")
    with opened(path) as file:
        first = next((line for line in file if line.strip() and not line.startswith("#")), "")
    if not first:
        raise SoonerError(f"{path.name} is empty; give a table with arm, size, steps, loss and seed")
    if first.lstrip().startswith("{"):
        try:
            return list(json.loads(first))
        except ValueError:
            raise SoonerError(
                f"line 1 of {path.name} is no JSON object: {first.strip()[:40]!r}; mend the line"
            ) from None
    mark = max("\t;,", key=first.count)
    return [heading.strip() for heading in next(csv.reader([first], delimiter=mark))]


def _complete(seeds: Curves, where: str, notes: list[str]) -> Curves:
    """Return the runs that go to the end; the others diverged or were stopped."""
    end = max((max(points) for points in seeds.values() if points), default=0.0)
    kept = {seed: points for seed, points in seeds.items() if points and max(points) >= end}
    if len(kept) < len(seeds):
        notes.append(
            f"{len(seeds) - len(kept)} of {len(seeds)} runs of {where} do not reach step {end:g} (diverged or stopped) "
            "and were left out: the gain speaks of those that do"
        )
    if not kept:
        raise SoonerError(f"no run of {where} has a finite loss, so no speed-up can be told; leave that size out")
    return kept


def _arm(seeds: Curves, where: str) -> Arm:
    steps = sorted(set.intersection(*(set(points) for points in seeds.values())))
    if len(steps) < 3:
        raise SoonerError(
            f"the runs of {where} share {len(steps)} step{'s' * (len(steps) != 1)}, which makes no curve; log all "
            "seeds at the same steps, three or more"
        )
    losses = np.array([[points[step] for step in steps] for points in seeds.values()])
    return Arm(np.array(steps), losses, tuple(seeds))
