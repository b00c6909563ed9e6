"""Small races for the tests: a worker pool in this process, a watch that remembers, and tasks written to a file."""

import json
import pickle
import signal
from pathlib import Path

from sooner.race.plan import Plan
from sooner.race.referee import Watch
from sooner.race.worker import run_cell
from sooner.recipe import Recipe
from sooner.workloads import find

LINE = '''
"""A plane is fitted to points."""
import torch
steps = 40
def model(seed):
    torch.manual_seed(seed)
    return torch.nn.Linear(4, 1)
def batches(seed, split):
    x = torch.randn(60, 16, 4, generator=torch.Generator().manual_seed(seed))
    return [(x[i], x[i].sum(1, keepdim=True)) for i in range(60)]
def loss(model, batch):
    return ((model(batch[0]) - batch[1]) ** 2).mean()
'''
"""The text of a task that every optimizer learns in a few steps."""

PROVENANCE = ("started", "finished", "command", "versions", "machine")


def small_plan(folder, *recipes, task="quadratic", **options):
    """A plan of a second or two; everything can be overridden."""
    defaults = {"looks": (6,), "tune": 1, "steps": 40, "measure_cost": False, "jobs": 2, "out": folder}
    if "until" in options and "looks" not in options:
        del defaults["looks"]
    return Plan(find(str(task)), [Recipe(text) for text in recipes], **{**defaults, **options})


def written(folder, text, name="my_task.py"):
    """The path of a task file with this text."""
    path = Path(folder) / name
    path.write_text(text, encoding="utf-8")
    return path


def numbers(result):
    """A result without when and where it was made."""
    return {key: value for key, value in result.items() if key not in PROVENANCE}


def cells(journal):
    """What every finished run recorded, without the processor time it took."""
    return {r.key: {k: v for k, v in r.data.items() if k != "cpu_seconds"} for r in journal.all("cell")}


class Notes(Watch):
    """Remembers what the race told, and stops it with Ctrl-C after a number of finished cells."""

    def __init__(self, stop_after=None):
        self.phases, self.done, self.lost = {}, [], {}
        self.stop_after = stop_after

    def phase(self, name, cells, later):
        self.phases[name] = [cell.key for cell in cells]

    def finished(self, cell, data):
        self.done.append(cell.key)
        if len(self.done) == self.stop_after:
            signal.raise_signal(signal.SIGINT)

    def failed(self, cell, cause):
        self.lost[cell.key] = cause


class Remembering:
    """A pool that tells at once what it has found before: for races whose judgement is asked for, not their runs."""

    def __init__(self, pool):
        self.pool, self.found = pool, {}

    def run(self, cells, on_result, on_progress=None, on_failure=None):
        missing = []
        for cell in cells:
            if (known := self.found.get(pickle.dumps(cell.payload))) is None:
                missing.append(cell)
            else:
                on_result(cell, json.loads(known))

        def keep(cell, data):
            self.found[pickle.dumps(cell.payload)] = json.dumps(data)
            on_result(cell, data)

        self.pool.run(missing, keep, on_progress, on_failure)

    def close(self):
        self.pool.close()


class Inline:
    """A pool that runs the cells in this process; `answers` replaces what a kind of cell ("blocks", …) returns."""

    def __init__(self, **answers):
        self.answers = answers
        self.ran = []
        self.closed = 0

    def run(self, cells, on_result, on_progress, on_failure):
        for cell in cells:
            kind = cell.payload["do"]
            self.ran.append(cell.key)
            try:
                answer = self.answers[kind] if kind in self.answers else run_cell(cell.payload, lambda *_: None)
            except Exception as error:
                on_failure(cell, str(error))
                continue
            on_result(cell, json.loads(json.dumps(answer)))

    def close(self):
        self.closed += 1
