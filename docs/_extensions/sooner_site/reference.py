"""The pages of the Python reference: every public name of every station, and what a new part is built from."""

from __future__ import annotations

import importlib
import importlib.util
import inspect

from sooner import part

NAMES = {
    "sooner": "sooner",
    "building": "Building blocks",
    "race": "The race in Python",
    "integrations": "Frameworks",
    "watch": "Watching",
}
BLOCKS = {
    "sooner": [
        "autoclass:: sooner.Recipe",
        "autofunction:: sooner.create_optimizer",
        "autofunction:: sooner.slot",
        "autofunction:: sooner.explain",
        "autofunction:: sooner.train",
        "autoclass:: sooner.Run",
        "autoclass:: sooner.Task",
        "autofunction:: sooner.workload",
        "autoexception:: sooner.SoonerError",
    ],
    "building": [
        "automodule:: sooner.part",
        "automodule:: sooner.space",
        "automodule:: sooner.transform",
        "automodule:: sooner.objective",
        "automodule:: sooner.recipe.training",
        "automodule:: sooner.loop.checkpoint",
        "automodule:: sooner.execute.choice",
    ],
    "race": [
        "autofunction:: sooner.racing.race",
        "autoclass:: sooner.racing.RaceResult",
        "autofunction:: sooner.racing.load",
        "autoclass:: sooner.race.plan.Plan",
        "autofunction:: sooner.race.referee.run",
        *(f"autoclass:: sooner.race.pool.{name}" for name in ("Pool", "Cell")),
        "autofunction:: sooner.race.pool.failed",
        "autofunction:: sooner.race.worker.run_cell",
        "autofunction:: sooner.race.engines.engine",
        "autoclass:: sooner.race.engines.processes.Processes",
        "autoclass:: sooner.race.engines.ray.Ray",
    ],
    "watch": [
        *(f"autoclass:: sooner.watch.{name}" for name in ("Watch", "Cell", "Sink", "Several", "Within")),
        "autofunction:: sooner.watch.watching",
        "autoclass:: sooner.watch.jsonl.Jsonl",
        "autoclass:: sooner.watch.tensorboard.TensorBoard",
        "autoclass:: sooner.watch.trackio.Trackio",
        "autoclass:: sooner.watch.wandb.Wandb",
        "autoclass:: sooner.watch.mlflow.Mlflow",
    ],
    "integrations": [
        f"automodule:: sooner.integrations.{name}"
        for name, library in {"hf": "transformers", "lightning": "lightning", "accelerate": "accelerate"}.items()
        if importlib.util.find_spec(library)  # else there is nothing to import
    ],
}


def generated() -> dict[str, str]:
    """Return the pages of the reference."""
    pages = {f"api/{name}.md": page(title, BLOCKS[name]) for name, title in NAMES.items()}
    for station in stations():
        module = importlib.import_module(f"sooner.{station}")
        blocks = [
            f"{'autofunction' if inspect.isfunction(getattr(module, name)) else 'autoclass'}:: sooner.{station}.{name}"
            for name in sorted(module.__all__, key=str.lower)
        ]
        if station == "update":
            blocks.append("autoclass:: sooner.update._options.Options")
        pages[f"api/{station}.md"] = page(f"sooner.{station}", blocks, module.__doc__ or "")
    names = "\n".join(["sooner", *stations(), "building", "race", "watch", "integrations"])
    title = "# Python reference\n\nEvery public name, from its docstring.\n\n"
    pages["api/index.md"] = f"{title}```{{toctree}}\n:maxdepth: 1\n\n{names}\n```\n"
    return pages


def stations() -> list[str]:
    """Return the stations that have parts."""
    return [station for station in part.STATIONS if station in part.names().values()]


def page(title: str, blocks: list[str], opening: str = "") -> str:
    """Return a page with one autodoc directive per block."""
    made = [f"# {title}\n", opening.replace("``", "`").split("\n\n")[0] + "\n"]
    for block in blocks:
        made += [f"## {block.split()[-1]}\n"] if "automodule" in block else []
        shown = "" if "function" in block else "   :members:\n   :show-inheritance:\n"
        made.append(f"```{{eval-rst}}\n.. {block}\n{shown}```\n")
    return "\n".join(made)
