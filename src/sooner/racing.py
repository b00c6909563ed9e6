"""A race from Python, and its result: what a notebook shows, a data frame, a report.

result = sooner.race(task, "adamw; muon + cosine", seeds=8)
"""

from __future__ import annotations

import html as escaping
import os
import webbrowser
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sooner.error import SoonerError
from sooner.race.engines import engine
from sooner.race.journal import read
from sooner.race.limits import DEFAULT_SEEDS
from sooner.race.plan import Plan
from sooner.race.pool import Pool
from sooner.race.referee import run
from sooner.recipe import Recipe
from sooner.recipe.text import split
from sooner.report import html, table, words
from sooner.task import Task
from sooner.watch import Watch, watching
from sooner.watch.pulse import Pulse
from sooner.workloads import find

if TYPE_CHECKING:
    import pandas

WIDTH = 150


class Text(str):
    """Text that shows itself as it is, in a session and in a notebook."""

    def __repr__(self) -> str:
        return str(self)


class RaceResult:
    """What a race has found.

    Args:
        data: the result, a plain dictionary with the fields of docs/result.md.
        folder: the race's folder, with its journal.
    """

    def __init__(self, data: dict[str, Any], folder: Path) -> None:
        self.data, self.folder = data, folder

    @property
    def table(self) -> Text:
        """The table as the command line prints it, as text."""
        return Text(table.text(self.data, WIDTH))

    @property
    def contenders(self) -> list[dict[str, Any]]:
        """The contenders, the baseline first, as docs/result.md describes them."""
        found: list[dict[str, Any]] = self.data["contenders"]
        return found

    def verdict(self, recipe: str) -> str:
        """Return the verdict on a contender: faster, slower, no difference found, too noisy, edge or out.

        Raises:
            SoonerError: no such contender raced.
        """
        wanted = str(Recipe(recipe))
        for one in self.contenders:
            if one["recipe"] == wanted:
                return str(one["verdict"])
        raise SoonerError(f"{recipe} was not in this race of {', '.join(one['recipe'] for one in self.contenders)}")

    def to_pandas(self, what: str = "contenders") -> pandas.DataFrame:
        """Return a data frame.

        Args:
            what: "contenders": one row for each, with verdict, steps ratio and its interval at the primary target,
                p-value after Holm, hits and final metric. "curves": one row per evaluation of every racing run.

        Raises:
            SoonerError: pandas is not installed, or there is no such table.
        """
        tables = {"contenders": self._rows, "curves": self._points}
        if what not in tables:
            raise SoonerError(f"to_pandas({what!r}): there are the tables {' and '.join(tables)}")
        try:
            import pandas
        except ImportError:
            raise SoonerError("pandas is not installed: pip install 'sooner[notebook]'") from None
        return pandas.DataFrame(tables[what]())

    def _rows(self) -> list[dict[str, Any]]:
        rows = []
        for one in self.contenders:
            measured = one["targets"].get(self.data["primary_target"], {})
            final = one["final"] or {}
            names = ("ratio", "low", "high", "p_holm", "hits")
            rows.append(
                {
                    **{name: one[name] for name in ("recipe", "verdict", "seeds")},
                    **{name: measured.get(name) for name in names},
                    **{f"final_{name}": final.get(name) for name in ("mean", "sd", "difference")},
                    **{name: one[name] for name in ("time_ratio", "ratio_with_tuning", "tuned_recipe", "sentence")},
                }
            )
        return rows

    def _points(self) -> list[dict[str, Any]]:
        return [
            {"recipe": one["recipe"], "seed": curve["seed"], "step": step, self.data["task"]["metric"]: value}
            for one in self.contenders
            for curve in one["curves"]
            for step, value in zip(curve["steps"], curve["values"], strict=True)
        ]

    def report(self, path: str | Path | None = None, *, open: bool = False) -> Path:
        """Write the report as one HTML file that needs no network, and return where it is.

        Args:
            path: the file; default ``report.html`` beside the journal.
            open: also show it in the browser.

        Raises:
            SoonerError: it can't be written there.
        """
        page = html.write(self.data, self.folder / "report.html" if path is None else Path(path))
        if open:
            webbrowser.open(page.resolve().as_uri())
        return page

    def __repr__(self) -> str:
        told = []
        for _, one in words.ordered(self.data):
            if not one["baseline"]:
                ratio = words.steps_ratio(one, self.data, self.data["primary_target"]) if words.raced(one) else ""
                told.append(f"{one['recipe']} {one['verdict']}{f' ({ratio})' if ratio else ''}")
        seeds = max(one["seeds"] for one in self.contenders)
        against = self.contenders[0]["recipe"]
        return f"<race on {self.data['task']['name']}, {seeds} seeds, against {against}: {'; '.join(told)}>"

    def _repr_html_(self) -> str:
        """Return a small table for notebooks: contenders in the order of their verdicts, and what to know of them."""
        heading = words.headings(self.data)
        shown = [name for name in ("recipe", "verdict", "steps", "p", "hits", "final") if name in heading]
        lines = ["<table><thead><tr>"]
        lines += [f"<th style='text-align:left'>{escaping.escape(heading[name])}</th>" for name in shown]
        lines.append("</tr></thead><tbody>")
        for _, one in words.ordered(self.data):
            row = words.cells(one, self.data)
            sign = words.SIGNS.get(one["verdict"], "")
            row["verdict"] = f"{sign} {row['verdict']}".strip()
            cells = (f"<td style='text-align:left'>{escaping.escape(row[name])}</td>" for name in shown)
            lines.append(f"<tr title='{escaping.escape(words.sentence(one))}'>{''.join(cells)}</tr>")
        lines.append("</tbody></table>")
        told = [words.noise_floor(self.data), *(f"Note: {note}" for note in self.data.get("notes") or [])]
        name = escaping.escape(self.data["task"]["name"])
        lines += [f"<p>{escaping.escape(text)}</p>" for text in told]
        return f"<div><strong>Race on {name}</strong>{''.join(lines)}</div>"


def race(
    task: Task | str,
    recipes: str | Sequence[str | Recipe] = "adamw; sgd; muon",
    *,
    seeds: int | None = None,
    looks: Sequence[int] | None = None,
    until: int | None = None,
    tune: int = 5,
    tuner: str = "halton",
    steps: int | None = None,
    regime: str = "auto",
    jobs: int | None = None,
    series: int = 0,
    workers: int = 1,
    world: int = 1,
    arms: bool = True,
    ablate: bool = False,
    cost: bool = True,
    out: str | Path | None = None,
    pool: Pool | str | None = None,
    watch: Watch | str | Iterable[Watch | str] | None = None,
) -> RaceResult:
    """Race training recipes against a tuned baseline, as ``sooner race`` does, and return the result.

    Called again with the same arguments, it goes on where it was stopped, or returns the finished result at once.

    Args:
        task: a `Task`, whose functions may be defined in a notebook; a bundled workload's name; or a file's path.
        recipes: contenders, the baseline first, with semicolons between or as a list.
        seeds: racing seeds per contender, 6 or more, default 8; or one of `looks` and `until` in its place.
        looks: numbers of seeds after which to judge, declared in advance.
        until: judge after every seed, at most so many.
        tune: tuning trials per contender besides its default.
        tuner: who proposes their settings, "halton", "optuna" (which is "optuna:tpe") or "optuna:gp".
        steps: of one run; default the task's own budget.
        regime: "anytime", "budgeted" or "auto".
        jobs: worker processes; default one for every core.
        series: another number repeats the race on other seeds.
        workers: of a simulated cluster in which every run trains.
        world: real processes that train every run together.
        arms: race what any comparison of communication needs too.
        ablate: race every stack with one part left out at a time too.
        cost: measure cost per step and memory after the race.
        out: the race's folder; default ``races/TASK-HASH`` below the working directory.
        pool: what runs the runs, which is left open: any `sooner.race.pool.Pool`. Or the name of an engine, "processes"
            (the default, `jobs` of them) or "ray", which ends with the race.
        watch: who is told what happens, as for `sooner.train`.

    Raises:
        SoonerError: a value that makes no race, a task or recipe that can't run, or a folder that can't be used.
    """
    if sum(x is not None for x in (seeds, looks, until)) > 1:
        raise SoonerError("seeds, looks and until say in several ways when to judge; give one of them")
    plan = Plan(
        find(task) if isinstance(task, str) else task,
        [
            one if isinstance(one, Recipe) else Recipe(one)
            for one in (split(recipes) if isinstance(recipes, str) else recipes)
        ],
        looks=tuple(looks) if looks is not None else (seeds or DEFAULT_SEEDS,),
        until=until,
        tune=tune,
        tuner=tuner,
        steps=steps,
        regime=regime,
        series=series,
        workers=workers,
        world=world,
        arms=arms,
        ablate=ablate,
        measure_cost=cost,
        out=None if out is None else Path(out),
        command="sooner.race(...)",
        jobs=(os.cpu_count() or 1) if jobs is None else jobs,
    )
    watchers = [watching(watch), Pulse(plan.folder())]
    if isinstance(pool, str):
        with engine(pool, jobs=jobs) as made:
            plan.jobs = made.jobs
            return RaceResult(html.finite(run(plan, watchers, made)), plan.folder())
    return RaceResult(html.finite(run(plan, watchers, pool)), plan.folder())


def load(folder: str | Path) -> RaceResult:
    """Return the result of a finished race from its folder.

    Raises:
        SoonerError: no race there, or one that is not finished.
    """
    journal = read(Path(folder))
    data = journal.find("result", "result")
    if data is None:
        raise SoonerError(f"the race in {folder} is not finished (cells done: {len(journal.all('cell'))})")
    data["notes"] = [*data["notes"], *journal.notes]
    return RaceResult(html.finite(data), journal.folder)
