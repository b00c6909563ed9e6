"""Programs as the ground of a search: options with choices, whole commands, or recipes that a program trains with.

What may be changed of a program is written in one of three ways:

    --command "python train.py --opt {optimizer} --seed {seed}" --choices "optimizer=adamw,muon; wd=0,0.1"
    --command "adamw: python train.py ..." --command "muon: python other.py ..."
    --command "python train.py --recipe {recipe} --seed {seed}" --base adamw --among "muon, ema"

The first value of each option, and the first command, are what the search begins with.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sooner.command.plan import CommandPlan, Program, program_of, refuse_unseeded
from sooner.command.template import FILLED, Command, read
from sooner.command.trying import Trying
from sooner.error import SoonerError, nearest
from sooner.race.pool import Cell, Pool
from sooner.recipe import Recipe
from sooner.search.candidates import Choice, with_choices
from sooner.search.ground import Change


@dataclass(frozen=True)
class Option:
    """One thing that may be changed of a program.

    Args:
        name: as reports write it, such as ``optimizer=muon``, or the name of a command.
        place: the option that has this value; empty for a whole command.
        value: of the option.
        command: that takes the place of all, None for a value.
        planned_end: whether trying it out has shown that its runs depend on how many steps they are asked for.
    """

    name: str
    place: str = ""
    value: str = ""
    command: Command | None = None
    planned_end: bool = False
    schedule: bool = field(default=False, init=False)

    def excludes(self, other: Option) -> bool:
        """Return whether a program has room for one of the two only: two values of an option, two commands."""
        return self.place == other.place


@dataclass
class OnCommands:
    """Programs, on which options, commands or recipes are searched.

    Args:
        program: what they train.
        template: the command with the options' names in braces; empty where whole commands are searched.
        levels: values of every option, the first of which the search begins with.
        steps: as asked for, None where the commands have a budget of their own.
        notes: what trying them out has shown, filled by `try_out`.
    """

    program: Program
    template: str = ""
    levels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    steps: int | None = None
    notes: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def subject(self) -> Program:
        """The program."""
        return self.program

    @property
    def length(self) -> int:
        """Steps of a run."""
        return self.program.steps

    def made(self, base: Command, changes: Sequence[Any]) -> Command:
        """Return a command with options at other values, another command, or the program with another recipe.

        Raises:
            SoonerError: the recipe can't be changed so.
        """
        planned = base.planned_end or any(change.planned_end for change in changes)
        if base.recipe is not None:
            return replace(base, recipe=with_choices(base.recipe, changes), planned_end=planned)
        whole: Command | None = next((change.command for change in changes if change.command is not None), None)
        if whole is not None:
            return replace(whole, planned_end=planned)
        if not changes:
            return base
        chosen = {change.place: change.value for change in changes}
        made = filled(self.template, {place: chosen.get(place, v[0]) for place, v in self.levels.items()})
        name = ", ".join(f"{place}={chosen[place]}" for place in self.levels if place in chosen)
        return replace(read(made), name=name, planned_end=planned)

    def possible(self, entrant: Command) -> str:
        """Return why a command can't race, as trying it out has shown; empty where it can, or was not tried."""
        return self.refused.get(str(entrant), "")

    def plan(self, entrants: Sequence[Command], **options: Any) -> CommandPlan:
        """Return a race of commands.

        Raises:
            SoonerError: a value that makes no race.
        """
        return CommandPlan(self.program, list(entrants), steps=self.program.steps, notes=self.notes, **options)

    def pasted(self, entrant: Command) -> str:
        """Return the command with all that was tuned, and SEED in the place of the seed."""
        ready = entrant.with_settings(entrant.default)
        if ready.recipe is not None:
            ready = replace(ready, recipe=entrant.recipe)
        return ready.filled(seed="SEED", steps=self.length, out="OUT", device=self.program.device)

    def try_out(
        self,
        base: Command,
        changes: Sequence[Change],
        folder: Path,
        pool: Pool,
        told: Callable[[list[Cell]], None],
        progress: Any = None,
        *,
        series: int = 0,
    ) -> tuple[Command, list[Change]]:
        """Run the command that the search begins with and each single change a few times, on seeds of no race.

        Returns:
            The command and the changes, as trying them out has shown whether they plan for a fixed end.

        Raises:
            SoonerError: the command that the search begins with can't race; changes that can't are kept in `refused`.
        """

        def tried(command: Command, number: int) -> Any:
            out = folder / f"{number}"
            return Trying([command], self.program, steps=self.steps, series=series, out=out).run(pool, told, progress)

        found = tried(base, 0)
        first, program = found.commands[0], found.program
        self.notes += found.notes
        kept: list[Change] = []
        evaluations = program.evaluations
        for number, change in enumerate(changes):
            command = self.made(base, [change])
            try:
                one = tried(command, number + 1)
                if one.program.steps != program.steps:
                    raise SoonerError(f"it runs {one.program.steps} steps and {base.name} {program.steps}")
            except SoonerError as error:
                self.refused[str(command)] = str(error)
                kept.append(change)
                continue
            self.notes += one.notes
            evaluations = min(evaluations, one.program.evaluations)
            planned = one.commands[0].planned_end
            kept.append(replace(change, planned_end=planned) if isinstance(change, Option) else change)
        self.program = replace(program, evaluations=evaluations)
        self.notes = list(dict.fromkeys(self.notes))
        return first, kept


def levels_of(text: str) -> dict[str, list[str]]:
    """Return the values of every option from what was typed, ``"optimizer=adamw,muon; wd=0,0.1"``.

    Raises:
        SoonerError: it can't be read, or an option has fewer than two different values.
    """
    found: dict[str, list[str]] = {}
    for one in filter(None, (piece.strip() for piece in text.split(";"))):
        place, equals, values = one.partition("=")
        place, listed = place.strip(), [value.strip() for value in values.split(",")]
        if not equals or not re.fullmatch(r"[A-Za-z_]\w*", place):
            raise SoonerError(f"--choices {one!r} is no option with its values; write it like optimizer=adamw,muon")
        if place in FILLED:
            raise SoonerError(f"--choices {one!r}: {{{place}}} is filled in by the race; give the option another name")
        if place in found:
            raise SoonerError(f"--choices names {place} twice; give all its values at once")
        if len(listed) < 2 or len(set(listed)) < len(listed) or "" in listed:
            raise SoonerError(f"--choices {one!r} needs two or more different values, the one you use now first")
        found[place] = listed
    if not found:
        raise SoonerError(f"--choices {text!r} names nothing; write it like optimizer=adamw,muon")
    return found


def filled(template: str, values: Mapping[str, str]) -> str:
    """Return a command with options' names in braces replaced by their values."""
    return re.sub(
        r"(?<!\{)\{([A-Za-z_]\w*)\}", lambda m: shlex.quote(values[m[1]]) if m[1] in values else m[0], template
    )


def ground_of(
    commands: Sequence[str], choices: str | None, recipes: tuple[str, Sequence[Choice]] | None, metric: str, **more: Any
) -> tuple[OnCommands, Command, list[Change]]:
    """Return the ground, the command that the search begins with, and what may be changed of it.

    Args:
        commands: as typed.
        choices: options and their values as typed, None without.
        recipes: the recipe to begin with and what may be added; used where the command has a place for a recipe.
        metric: the number that the programs print.
        more: of `Program`, and `steps`.

    Raises:
        SoonerError: commands that can't be read, or that leave nothing to search.
    """
    steps = more.pop("steps", None)
    levels: dict[str, list[str]] = {} if choices is None else levels_of(choices)
    if levels and len(commands) > 1:
        raise SoonerError(f"--choices go with one --command, whose options they are, and there are {len(commands)}")
    for place in levels:
        if f"{{{place}}}" not in commands[0]:
            known = [m[1] for m in re.finditer(r"\{([A-Za-z_]\w*)\}", commands[0])]
            raise SoonerError(f"--choices names {place}, and the command has no {{{place}}}{nearest(place, known)}")
    first = {place: values[0] for place, values in levels.items()}
    found = [read(filled(text, first)) for text in commands]
    base = found[0]
    changes: list[Change]
    if "recipe" in base.asks:
        if len(found) > 1 or levels or base.space:
            raise SoonerError(
                f"command {base.name!r} asks for {{recipe}}, so recipes are searched; give it alone, without --choices "
                "and ranges of its own"
            )
        assert recipes is not None
        base, changes = replace(base, recipe=Recipe(recipes[0])), list(recipes[1])
    elif levels:
        base = replace(base, name=", ".join(f"{place}={value}" for place, value in first.items()))
        changes = [Option(f"{p}={v}", p, v) for p, values in levels.items() for v in values[1:]]
    elif len(found) > 1:
        names = [one.name for one in found]
        if len(set(names)) < len(names):
            raise SoonerError("two commands have one name; write names in front, such as 'muon: python ...'")
        changes = [Option(one.name, command=one) for one in found[1:]]
    else:
        raise SoonerError(
            f"command {base.name!r} leaves nothing to search; give --choices 'optimizer=adamw,muon' for {{optimizer}} "
            "in it, a second --command, or {recipe} in it"
        )
    program = program_of(found, metric, **more)
    ground = OnCommands(program, commands[0] if levels else "", levels, steps)
    refuse_unseeded(found, program)
    return ground, base, changes
