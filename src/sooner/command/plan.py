"""The plan of a race of commands: what they are, which files they run, and what trying them out has shown."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sooner.command.cell import digest
from sooner.command.template import Command
from sooner.error import SoonerError
from sooner.race import limits
from sooner.race.entrant import Entrant
from sooner.race.machine import processor, versions
from sooner.race.planned import Planned
from sooner.race.targets import ladder

WORKER = "sooner.command.cell:run"
SILENCE = 1800.0
_MOST_FILE_BYTES = 1_000_000


@dataclass(frozen=True)
class Program:
    """What commands train, as far as a race has to know.

    Args:
        metric: the name that they print.
        higher_is_better: whether larger values are better.
        log: pattern of the files they write below ``{out}``; empty where they print.
        silence: seconds without a word after which a run is ended.
        device: what ``{device}`` says, "cpu" by default.
        steps: the budget, 0 as long as it is not known.
        evaluations: how often they measure in a run, as trying them out has shown.
        name: for tables and folders.
        spec: the first file that they run.
        description: the commands in words.
        files: what each file that is named in a command holds, as a digest.
    """

    metric: str
    higher_is_better: bool = False
    log: str = ""
    silence: float = SILENCE
    device: str = "cpu"
    steps: int = 0
    evaluations: int = 0
    name: str = "command"
    spec: str = ""
    description: str = ""
    files: Mapping[str, str] = field(default_factory=dict)

    def payload(self, command: Command, seed: int, steps: int | None, folder: Path) -> dict[str, Any]:
        """Return what a worker needs for one run of a command.

        Args:
            command: with all that is tuned chosen.
            seed: of the run.
            steps: the budget of this run, None for its own.
            folder: of this run alone.
        """
        where = folder.absolute()
        return {
            "do": WORKER,
            "command": command.filled(seed=seed, steps=steps, out=where / "out", device=self.device),
            "recipe": str(command),
            "settings": dict(command.settings),
            "seed": seed,
            "steps": steps,
            "folder": str(where),
            "metric": self.metric,
            "log": self.log,
            "silence": self.silence,
            "device": self.device,
            "threads": os.environ.get("OMP_NUM_THREADS", "1"),
            "files": dict(self.files),
            "processor": processor(),
        }

    def identity(self) -> dict[str, Any]:
        """Return what decides the numbers of a run, as far as it can be known from outside."""
        return {
            "name": self.name,
            "metric": self.metric,
            "higher is better": self.higher_is_better,
            "log": self.log,
            "device": self.device,
            "files": dict(self.files),
        }


def program_of(commands: Sequence[Command], metric: str, **options: Any) -> Program:
    """Return the program of some commands: its files and a name for it.

    Args:
        commands: the contenders.
        metric: the name that they print.
        options: of `Program`.

    Raises:
        SoonerError: a pattern for logs that leaves the run's folder.
    """
    log = options.pop("log", "").removeprefix("{out}/")
    if Path(log).is_absolute() or ".." in Path(log).parts:
        raise SoonerError(
            f"--read {log} is the same file for all runs; have the command write below {{out}}, such as "
            "--log-dir {{out}}, and give the pattern of what it writes there, such as --read '*.csv'"
        )
    files = files_of(commands)
    first = next(iter(files), "")
    said = "; ".join(c.text if c.text.startswith(c.name) else f"{c.name}: {c.text}" for c in commands)
    name = Path(first).stem if first else (commands[0].name.split()[0] if commands else "command")
    safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in name) or "command"
    return Program(metric, log=log, name=safe, spec=first, description=said, files=files, **options)


def files_of(commands: Sequence[Command]) -> dict[str, str]:
    """Return a digest of every small file that is a word of a command: scripts and their settings."""
    found = {}
    for command in commands:
        try:
            words = shlex.split(command.text)
        except ValueError as error:
            raise SoonerError(
                f"command {command.name!r} can't be read by a shell ({error}); close its quotes"
            ) from None
        for word in words:
            path = Path(word.partition("=")[2] or word)
            if "{" not in word and path.is_file() and path.stat().st_size <= _MOST_FILE_BYTES and path.suffix:
                found[str(path)] = digest(path)
    return found


def uses_contender(command: Command, program: Program) -> bool:
    """Return whether a script of a command asks for its seed by `sooner.contender`."""
    words = shlex.split(command.text)
    files = [Path(name) for name in program.files if any(name in word for word in words)]
    return any("contender(" in path.read_text(encoding="utf-8", errors="replace") for path in files)


def refuse_unseeded(commands: Sequence[Command], program: Program) -> None:
    """Refuse a command that has no place for the seed, as all its runs would be one.

    Raises:
        SoonerError: names it.
    """
    for command in commands:
        if "seed" not in command.asks and not uses_contender(command, program):
            raise SoonerError(
                f"command {command.name!r} has no {{seed}}, so all its runs would be the same; pass it on, such as "
                "--seed {seed}, or take run.seed of sooner.contender() in the script"
            )


@dataclass
class CommandPlan(Planned):
    """A race of commands; the arguments that it shares with other races are those of `Plan`.

    Args:
        task: what they train.
        recipes: the commands, the baseline first, with `planned_end` as trying them out has shown.
        notes: what trying them out has shown, for the reader.

    Raises:
        SoonerError: a value that makes no race.
    """

    task: Program
    recipes: list[Command]
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        limits.check_counts(self.jobs, self.tune, self.series, self.workers, self.world)
        self.budget = self.task.steps
        limits.check_budget(self.budget)
        self.looks = limits.looks_of(self.looks, self.until)
        self.proposing()  # refuses a tuner that is not there
        limits.check_different([str(r) for r in self.recipes])
        fixed = [r.name for r in self.recipes if r.planned_end]
        self.regime = limits.regime_of(self.regime, fixed)
        if self.regime == "budgeted":
            for command in self.recipes:
                if "steps" not in command.asks and not uses_contender(command, self.task):
                    raise SoonerError(
                        f"command {command.name!r} has no {{steps}}, and a budgeted race asks for several lengths; "
                        "pass it on, such as --steps {steps}"
                    )
            self.recipes = [replace(r, planned_end=True) for r in self.recipes]  # each length is a run of its own
        elif self.task.evaluations < limits.LEAST_EVALUATIONS:
            raise SoonerError(
                f"{self.task.metric} is measured {self.task.evaluations} times in a run, too few to see when it "
                f"reaches a target; have it measured {limits.LEAST_EVALUATIONS} times or more, such as 25"
            )
        self.horizons = ladder(self.budget) if self.regime == "budgeted" else [self.budget]
        text = json.dumps(dict(self.task.files), sort_keys=True)
        self.checked = {
            "fingerprint": f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}",
            "data": "",
            "parameters": None,
        }
        self._folder = self.folder()

    def identity(self) -> dict[str, Any]:
        """Return everything that decides the result, and nothing else."""
        return {
            "rules": limits.RULES,
            "task": self.task.identity(),
            "recipes": [str(r) for r in self.recipes],
            "commands": [r.text for r in self.recipes],
            **self.judging(),
            "versions": versions(),
            "processor": processor(),
        }

    def payload(self, tuned: Entrant, seed: int, steps: int, evaluate_at: Sequence[int]) -> dict[str, Any]:
        """Return what a worker needs to make one run; when it measures is the program's own affair."""
        assert isinstance(tuned, Command)
        return self.task.payload(tuned, seed, steps, run_folder(self._folder, tuned, seed, steps))

    def task_changed(self) -> bool:
        """Say whether a file of the commands is no longer what it was when the race began."""
        return any(digest(Path(name)) != was for name, was in self.task.files.items())

    def warnings(self) -> list[str]:
        """Return what the reader must know of the plan itself."""
        notes = super().warnings()
        if self.tune == 0:
            notes.append("nobody was tuned (--tune 0): the race compares defaults, not methods")
        return [*notes, *self.notes]


def run_folder(race: Path, command: Command, seed: int, steps: int | None, more: str = "") -> Path:
    """Return the folder of one run."""
    key = f"{command} | {command.text} | {seed} | {steps} | {more}"
    return race / "runs" / hashlib.sha256(key.encode()).hexdigest()[:16]
