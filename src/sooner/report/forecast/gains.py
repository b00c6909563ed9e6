"""From gains, and from races at several sizes, to answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from sooner.forecast.gained import Gain, shown
from sooner.report.forecast.answer import Answer, Cell, Grid, Line, Plot


def of_gains(made: Sequence[Gain]) -> Answer:
    """Return the answer of `sooner forecast gain`."""
    return Answer(
        "Does the gain survive?",
        "; ".join(one.sentence for one in made),
        [grid for one in made for grid in (_measured(one), *_left_out(one))],
        [_plot(one) for one in made],
        _once(warning for one in made for warning in one.warnings),
        _once(note for one in made for note in (*one.notes, _laws(one))),
        {"gains": [_data(one) for one in made]},
    )


def of_sizes(races: Sequence[tuple[float, dict[str, Any]]], gains: Sequence[Gain], told: Sequence[str] = ()) -> Answer:
    """Return the answer of `sooner race --sizes`: the verdict of every race, and the gain fitted through all.

    Args:
        races: size and result of each.
        gains: of the contenders.
        told: why a gain could not be fitted, and other warnings.
    """
    first = races[0][1]
    baseline = next(row["recipe"] for row in first["contenders"] if row["baseline"])
    rows: list[list[Cell]] = []
    data = []
    for size, result in races:
        for row in result["contenders"]:
            if row["baseline"]:
                continue
            ratio = row["targets"].get(result["primary_target"])
            rows.append(
                [
                    row["recipe"],
                    f"{size:g}",
                    f"{result['task']['parameters']:,}",
                    f"{result['task']['steps']:,}",
                    None if ratio is None else _ratio(ratio),
                    row["verdict"],
                ]
            )
            data.append(
                {
                    "recipe": row["recipe"],
                    "tuned_recipe": row["tuned_recipe"],
                    "size": size,
                    "parameters": result["task"]["parameters"],
                    "steps": result["task"]["steps"],
                    "ratio": None if ratio is None else {key: ratio[key] for key in ("ratio", "low", "high", "p")},
                    "verdict": row["verdict"],
                    "sentence": row["sentence"],
                    "noise_floor": {key: result["noise_floor"][key] for key in ("ratio", "low", "high")},
                }
            )
    rows.sort(key=lambda row: str(row[0]))  # sizes stay in order within each contender
    title = f"Steps to {baseline}'s {first['primary_target']} target, as a ratio (below 1 is sooner), race by race"
    heads = ("contender", "size", "parameters", "steps", "ratio", "verdict")
    fitted = of_gains(gains)
    return Answer(
        f"Does the gain over {baseline} survive on {first['task']['name']}?",
        fitted.headline if gains else f"{len(races)} races, and no gain fitted through them",
        [Grid(title, heads, rows), *fitted.grids],
        fitted.plots,
        _once((*told, *fitted.warnings)),
        _once((*fitted.notes, *(note for _, result in races for note in result["notes"]))),
        {"task": first["task"]["name"], "baseline": baseline, "rules": first["rules"], "races": data, **fitted.data},
    )


def _ratio(ratio: dict[str, Any]) -> str:
    """Return a ratio with its interval; None is a miss, as in the table of a race."""
    middle, low, high = ("never" if ratio[key] is None else f"{ratio[key]:.2f}" for key in ("ratio", "low", "high"))
    return f"{middle} [{low}, {high}]"


def _measured(made: Gain) -> Grid:
    rows: list[list[Cell]] = [
        [f"{one.size:,.0f}", f"{one.length:,.0f}", shown(one), "measured", one.seeds] for one in made.measured
    ]
    rows.append([f"{made.target.size:,.0f}", f"{made.target.length:,.0f}", shown(made.target), "forecast", None])
    title = f"Speed-up of {made.contender} over {made.baseline} to equal loss, {made.level:.0%} intervals"
    return Grid(title, ("parameters", "steps", "speed-up", "how", "seeds"), rows)


def _left_out(made: Gain) -> list[Grid]:
    if made.left_out is None:
        return []
    measured, predicted = made.left_out
    inside = predicted.low <= measured.value <= predicted.high
    row: list[Cell] = [f"{measured.size:,.0f}", shown(measured), shown(predicted), "yes" if inside else "no"]
    title = f"The largest size of {made.contender}, predicted from the others"
    return [Grid(title, ("parameters", "measured", "predicted", "inside"), [row])]


def _plot(made: Gain) -> Plot:
    x = np.array([one.size for one in made.measured])
    y = np.array([one.value for one in made.measured])
    lines = [
        Line(f"{made.contender}, measured", x, y, dots=True),
        Line(f"{made.contender}, fitted", made.along, made.value, made.low, made.high),
        Line("no gain", made.along[[0, -1]], np.ones(2)),
    ]
    return Plot(f"Speed-up of {made.contender} over {made.baseline}", "model parameters", "speed-up", lines, True)


def _laws(made: Gain) -> str:
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in made.laws.items())
    return f"laws of the logarithm of {made.contender}'s speed-up, by what they explain: {shares}"


def _data(made: Gain) -> dict[str, Any]:
    found = asdict(made)
    names = ("along", "value", "low", "high")
    columns = [found.pop(name).tolist() for name in names]
    for name in ("warnings", "notes"):
        found.pop(name)
    return {**found, "along": [dict(zip(("size", *names[1:]), row, strict=True)) for row in zip(*columns, strict=True)]}


def _once(texts: Any) -> list[str]:
    return list(dict.fromkeys(texts))
