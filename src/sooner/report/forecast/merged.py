"""The answer of `sooner forecast merge`: what each project counts, and all curves on one page."""

from __future__ import annotations

from sooner.forecast.merge import Merged
from sooner.report.forecast.answer import Answer, Cell, Grid, Line, Plot, tidy
from sooner.report.forecast.plots import MOST_RUNS


def of_merged(merged: Merged) -> Answer:
    """Return the answer of `sooner forecast merge`."""
    rows: list[list[Cell]] = []
    lines = []
    share = max(1, MOST_RUNS // len(merged.projects))
    for name, runs in merged.projects.items():
        table = merged.table.only(runs)
        best = int(table["loss"].argmin())
        at = "-" if merged.axis is None else tidy(float(table[merged.axis][best]))
        rows.append([name, len(runs), len(table), float(table["loss"][best]), at, str(table.run[best])])
        if merged.axis is None:
            continue
        lowest = sorted(runs, key=lambda run: float(merged.table.only([run])["loss"].min()))
        for run in lowest[:share]:
            curve = merged.table.only([run])
            lines.append(Line(run, curve[merged.axis], curve["loss"], dots=len(curve) < 3))
    axis = merged.axis or "none"
    first = min(rows, key=lambda row: float(row[3] or 0))
    heads = ("project", "runs", "rows", f"lowest loss, {merged.unit}", f"at {axis}", "run")
    count = sum(len(runs) for runs in merged.projects.values())
    return Answer(
        "What do all projects say together?",
        f"{len(merged.table)} rows of {count} runs of {len(merged.projects)} projects, in {merged.unit}, along {axis}: "
        f"{first[0]} is lowest with {tidy(float(first[3] or 0))}",
        [Grid("Projects", heads, rows)],
        [Plot(f"The lowest {share} of each project", axis, f"loss, {merged.unit}", lines)] if lines else [],
        merged.doubts,
        merged.notes,
        {
            "unit": merged.unit,
            "axis": merged.axis,
            "projects": [dict(zip(("name", "runs", "rows", "lowest", "at", "run"), row, strict=True)) for row in rows],
        },
    )
