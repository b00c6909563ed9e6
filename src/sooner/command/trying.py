"""Before a race of commands: each is run a few times, on seeds of no race, to see what can't be known from outside.

Whether the metric is found, whether the seed does anything, whether one seed gives one curve, and whether the first
steps depend on how many were asked for. A run to the end and two of half its length show all that; one more where the
curves differ. They are kept in a journal, so that the same command finds them again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sooner.command.plan import Program, run_folder, uses_contender
from sooner.command.template import Command
from sooner.error import SoonerError
from sooner.race import limits
from sooner.race.engines.processes import Processes
from sooner.race.journal import Journal
from sooner.race.machine import machine, now, processor, versions
from sooner.race.planned import CHECKS, SERIES
from sooner.race.pool import Cell, Pool

Values = dict[float, float]


@dataclass(frozen=True)
class Tried:
    """What trying commands out has shown.

    Args:
        commands: with `planned_end` set where a run depends on its planned length.
        program: with budget and number of evaluations.
        notes: what the reader must know.
    """

    commands: list[Command]
    program: Program
    notes: list[str]


class Trying:
    """Tries commands out.

    Args:
        commands: the contenders.
        program: what they train.
        steps: the budget, None where the commands have one of their own.
        regime: as asked for; "anytime" is believed of commands whose runs differ from time to time.
        series: as of the race.
        out: the race's folder, None for the default.

    Raises:
        SoonerError: a command asks for a number of steps and there is none.
    """

    def __init__(
        self,
        commands: Sequence[Command],
        program: Program,
        *,
        steps: int | None,
        regime: str = "auto",
        series: int = 0,
        out: Path | None = None,
    ) -> None:
        self.commands, self.program, self.steps, self.regime = list(commands), program, steps, regime
        self.seeds = [series * SERIES + CHECKS + number for number in range(2)]
        for command in commands:
            if "steps" in command.asks and steps is None:
                raise SoonerError(f"command {command.name!r} asks for {{steps}}; say how many with --steps 1000")
        if steps is not None:
            limits.check_budget(steps)
        self.half = None if steps is None else steps // 2
        name = hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:8]
        self.folder = (
            Path("races") / f"tried-{program.name}-{name}" if out is None else out.with_name(f"tried-{out.name}")
        )

    def identity(self) -> dict[str, Any]:
        """Return everything that decides what is seen."""
        return {
            "tried": self.program.identity(),
            "commands": [[str(c), c.text] for c in self.commands],
            "steps": self.steps,
            "seeds": self.seeds,
            "versions": versions(),
            "processor": processor(),
        }

    def run(self, pool: Pool, told: Callable[[list[Cell]], None], progress: Any = None) -> Tried:
        """Run what is missing and say what it shows.

        Args:
            pool: workers.
            told: is given the runs before they are made.
            progress: is told how far they are, as the pool's `on_progress`.

        Raises:
            SoonerError: a command fails, prints no metric, does not use its seed, or takes another number of steps.
        """
        provenance = {"versions": versions(), "machine": machine(), "started": now()}
        with Journal.open(self.folder, self.identity(), provenance) as journal:

            def ensure(cells: list[Cell]) -> dict[str, Any]:
                missing = [cell for cell in cells if journal.find("cell", cell.key) is None]
                if missing:
                    told(missing)
                    pool.run(missing, lambda c, data: journal.append("cell", c.key, data), progress, self._failed)
                return {cell.key: journal.find("cell", cell.key) for cell in cells}

            first = [self._cells(command) for command in self.commands]
            ensure([cell for cells in first for cell in cells])
            seen = [[_curve(journal.find("cell", cell.key)) for cell in cells] for cells in first]
            again = [cells[1] for cells, curves in zip(first, seen, strict=True) if self._doubtful(cells, curves)]
            more = ensure([self._once_more(cell) for cell in again])
            found, notes = [], []
            for command, cells, curves in zip(self.commands, first, seen, strict=True):
                data = journal.find("cell", cells[0].key)
                assert data is not None
                if data["diverged_at"] is not None:
                    raise SoonerError(
                        f"command {command.name!r}: {self.program.metric} is lost at step {data['diverged_at']} with "
                        "its first settings; give a first value that works, such as {lr=1e-3:log(1e-4, 1e-2)}"
                    )
                twice = more.get(self._once_more(cells[1]).key)
                made, note = self._seen(command, curves, None if twice is None else _curve(twice))
                found.append(made)
                notes += note
            lengths = [int(max(curves[0])) for curves in seen]
            for command, length in zip(self.commands, lengths, strict=True):
                if length != lengths[0]:
                    raise SoonerError(
                        f"command {command.name!r} runs {length} steps and {self.commands[0].name!r} {lengths[0]}; "
                        "give all the same, such as with {steps}"
                    )
            program = replace(self.program, steps=lengths[0], evaluations=min(len(curves[0]) for curves in seen) - 1)
            return Tried(found, program, notes)

    def _takes_steps(self, command: Command) -> bool:
        return self.steps is not None and ("steps" in command.asks or uses_contender(command, self.program))

    def _cells(self, command: Command) -> list[Cell]:
        """Return a run to the end, a run of the same seed and one of another: shorter ones where it takes a length."""
        short = self.half if self._takes_steps(command) else self.steps
        whole = self._cell(command, self.seeds[0], self.steps)
        if short == self.steps:
            return [
                whole,
                self._cell(command, self.seeds[0], short, "again"),
                self._cell(command, self.seeds[1], short),
            ]
        return [whole, *(self._cell(command, seed, short) for seed in self.seeds)]

    def _cell(self, command: Command, seed: int, steps: int | None, more: str = "") -> Cell:
        tried = command.with_settings(command.default)
        folder = run_folder(self.folder, tried, seed, steps, more)
        payload = self.program.payload(tried, seed, steps, folder)
        length = "its own" if steps is None else steps
        key = f"{command.name} | seed {seed} | {length} steps{f' | {more}' if more else ''}"
        return Cell(key, payload, float(steps or 1))

    def _once_more(self, cell: Cell) -> Cell:
        folder = f"{cell.payload['folder']}-more"
        command = str(cell.payload["command"]).replace(cell.payload["folder"], folder)
        return Cell(f"{cell.key} | once more", {**cell.payload, "folder": folder, "command": command}, cell.weight)

    def _doubtful(self, cells: list[Cell], curves: list[Values]) -> bool:
        """Return whether a shorter run differs, which its length or mere chance may have done."""
        return cells[0].payload["steps"] != cells[1].payload["steps"] and not _agree(curves[0], curves[1])

    def _seen(self, command: Command, curves: list[Values], more: Values | None) -> tuple[Command, list[str]]:
        whole, same, other = curves
        metric, (one, two) = self.program.metric, self.seeds
        if _common(same, other) and all(same[s] == other[s] for s in _common(same, other)):
            raise SoonerError(
                f"command {command.name!r} prints the same {metric} for the seeds {one} and {two}; have everything "
                "random in it, initial weights and order of the data, depend on {seed}"
            )
        takes = self._takes_steps(command)
        if more is None and (_agree(whole, same) or takes):
            return replace(command, planned_end=takes and not _agree(whole, same)), []
        pair = (same, whole if more is None else more)
        if _agree(*pair):
            return replace(command, planned_end=takes), []
        last = max(_common(*pair), default=None)
        much = ""
        if last is not None:
            gap, usual = abs(pair[0][last] - pair[1][last]), abs(same[last] - other[last]) if last in other else 0.0
            share = f", {gap / usual:.0%} of what another seed changes" if usual else ""
            much = f" ({metric} by {gap:.3g} at step {last:g}{share})"
        note = (
            f"{command.name} gives different numbers for one seed twice{much}: it races unpaired, so sharing a seed "
            "takes no luck out of a comparison, and a race that is repeated gives other numbers"
        )
        return replace(command, planned_end=takes and self.regime != "anytime"), [note]

    def _failed(self, cell: Cell, cause: str) -> None:
        raise SoonerError(f"command {cell.key.split(' | ')[0]!r} can't race: {cause}")


def try_out(
    trying: Trying,
    *,
    jobs: int,
    slots: Sequence[Mapping[str, str]] = (),
    told: Callable[[list[Cell]], None],
    progress: Any = None,
    pool: Pool | None = None,
) -> Tried:
    """Try commands out on workers of their own, or on these; see `Trying.run`."""
    with contextlib.nullcontext(pool) if pool else Processes(jobs, slots=slots) as workers:
        return trying.run(workers, told, progress)


def _curve(data: Mapping[str, Any] | None) -> Values:
    return {} if data is None else dict(zip(data["steps"], data["values"], strict=True))


def _common(a: Values, b: Values) -> list[float]:
    return sorted(a.keys() & b.keys())


def _agree(whole: Values, part: Values) -> bool:
    """Return whether two curves agree on all steps that both have, beyond the untrained model."""
    common = _common(whole, part)
    return any(step > 0 for step in common) and all(whole[step] == part[step] for step in common)
