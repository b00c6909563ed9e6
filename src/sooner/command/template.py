"""A command as it is written for a race, ``adamw: python train.py --lr {lr:log(1e-4, 1e-2)} --seed {seed}``."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from sooner.error import SoonerError, nearest
from sooner.recipe import Recipe
from sooner.recipe.text import RANGES
from sooner.space import Choice, Knob

FILLED = ("seed", "steps", "out", "device", "recipe")
"""What the referee fills in; everything else in braces is tuned."""
_BRACES = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)(?:=([^{}:]*))?(?::([^{}]*))?\}")
_NAMED = re.compile(r"\s*([A-Za-z][\w.+ -]*?)\s*:\s+(\S.*)", re.DOTALL)
_THIRD = 1 / 3


@dataclass(frozen=True)
class Command:
    """One program to race, with places for what the referee fills in.

    Args:
        name: what reports call it; the command itself where it has none.
        text: the command, for a shell; ``{seed}``, ``{steps}``, ``{out}`` (a folder of the run's own), ``{device}`` and
            ``{recipe}`` are filled in, ``{lr:log(1e-4, 1e-2)}`` is tuned in that range, ``{lr=3e-4:log(1e-4, 1e-2)}``
            is tried with 3e-4 first. Braces that are meant are written ``{{`` and ``}}``.
        settings: values chosen for what is tuned.
        recipe: parts that the program trains with, tuned as they are in any race; None where it knows of none.
        planned_end: whether a run depends on how many steps it is asked for, so that each length is a run of its own.
    """

    name: str
    text: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    recipe: Recipe | None = None
    planned_end: bool = False

    def __str__(self) -> str:
        if self.recipe is not None:
            return str(self.recipe)
        if not self.settings:
            return self.name
        return f"{self.name} ({', '.join(f'{k}={v}' for k, v in self.settings.items())})"

    @property
    def horizon_free(self) -> bool:
        """Whether its first n steps are the same whatever it is asked for."""
        return not self.planned_end

    @property
    def asks(self) -> frozenset[str]:
        """Which of `FILLED` it has a place for."""
        return frozenset(name for name, *_ in _places(self.text) if name in FILLED)

    @property
    def ranges(self) -> dict[str, tuple[Any, Knob]]:
        """First value and range of everything in braces that is tuned, chosen or not."""
        found: dict[str, tuple[Any, Knob]] = {}
        for name, first, span in _places(self.text):
            if name not in FILLED and span is not None:
                knob = _knob(self.text, name, span)
                found[name] = (knob.at(_THIRD) if first is None else _literal(first), knob)
        return found

    @property
    def space(self) -> dict[str, Knob]:
        """What a race tunes."""
        if self.recipe is not None:
            return self.recipe.space
        return {name: knob for name, (_, knob) in self.ranges.items() if name not in self.settings}

    @property
    def default(self) -> dict[str, Any]:
        """The settings of the first trial: as written, else a third of the way into the range.

        Quasi-random points of one dimension never fall on a third, so that no trial is wasted.
        """
        if self.recipe is not None:
            return self.recipe.default
        return {name: first for name, (first, _) in self.ranges.items() if name not in self.settings}

    def with_settings(self, settings: Mapping[str, Any]) -> Self:
        """Return it with values for some of what is tuned.

        Raises:
            SoonerError: a name that it does not tune.
        """
        if self.recipe is not None:
            return replace(self, recipe=self.recipe.with_settings(settings))
        for name in settings:
            if name not in self.space:
                raise SoonerError(f"command {self.name!r} does not tune {name!r}{nearest(name, self.space)}")
        return replace(self, settings={**self.settings, **settings})

    def left_out(self, baseline: Any) -> Sequence[Command]:
        """Return nothing: what two commands differ in is not known."""
        return []

    def filled(self, **values: Any) -> str:
        """Return the command for a shell, every place filled and quoted.

        Args:
            values: of `FILLED`.
        """
        known = {**self.settings, **values, "recipe": "" if self.recipe is None else str(self.recipe)}

        def fill(found: re.Match[str]) -> str:
            if found[1] is None:
                return found[0][0]
            return shlex.quote(str(known[found[1]]))

        return _BRACES.sub(fill, self.text)


def read(text: str) -> Command:
    """Return a command from what was typed, ``NAME: COMMAND`` or the command alone.

    Raises:
        SoonerError: it is empty, or names in braces that neither the referee fills in nor a range explains.
    """
    named = _NAMED.fullmatch(text)
    name, command = (named[1], named[2]) if named else (" ".join(text.split()), text.strip())
    if not command:
        raise SoonerError('a command is empty; write it like --command "mine: python train.py --seed {seed}"')
    for place, _, span in _places(command):
        if place in FILLED and span is not None:
            raise SoonerError(
                f"command {name!r}: {{{place}}} is filled in by the race; give what you tune another name"
            )
        if place not in FILLED and span is None:
            raise SoonerError(
                f"command {name!r}: {{{place}}} is nothing that the race fills in{nearest(place, FILLED)} "
                f"({', '.join(FILLED)}), and has no range; write {{{place}:log(1e-4, 1e-2)}} to tune it, or "
                f"{{{{{place}}}}} for the braces themselves"
            )
    made = Command(name, command)
    doubled = [n for n in made.ranges if [p for p, _, span in _places(command) if span is not None].count(n) > 1]
    if doubled:
        raise SoonerError(f"command {name!r} gives {{{doubled[0]}}} a range twice; write it once")
    return made


def _places(text: str) -> list[tuple[str, str | None, str | None]]:
    """Return name, first value and range of every place in braces."""
    return [(m[1], m[2], m[3]) for m in _BRACES.finditer(text) if m[1] is not None]


def _knob(text: str, name: str, span: str) -> Knob:
    remedy = "write a range like log(1e-4, 1e-2), uniform(0, 0.2) or choice(1, 2, 4)"
    try:
        call = ast.parse(span.strip(), mode="eval").body
        assert isinstance(call, ast.Call)
        assert isinstance(call.func, ast.Name)
        assert not call.keywords
        knob: Knob = RANGES[call.func.id](*(ast.literal_eval(one) for one in call.args))
    except SoonerError as error:
        raise SoonerError(f"{{{name}:{span}}}: {error}") from None
    except (SyntaxError, ValueError, TypeError, KeyError, AssertionError):
        raise SoonerError(f"{{{name}:{span}}} is no range; {remedy}") from None
    if isinstance(knob, Choice) and not all(isinstance(v, bool | int | float | str) for v in knob.values):
        raise SoonerError(f"{{{name}:{span}}} has a value that no command line takes; {remedy}")
    return knob


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (SyntaxError, ValueError):
        return text.strip()
