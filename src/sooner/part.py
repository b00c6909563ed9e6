"""What every published method declares about itself, and how a part is found by its name.

A part is an ordinary PyTorch object of its station (an optimizer, a learning-rate scheduler…) that also says what it
needs, what it owns and which of its hyper-parameters a race may tune. A file in a station's folder is a part, named
after the file.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import math
import numbers
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sooner.error import SoonerError, nearest
from sooner.space import Knob

STATIONS = (
    "data",
    "model",
    "adapter",
    "precision",
    "loss",
    "gradient",
    "communication",
    "update",
    "schedule",
    "weights",
    "memory",
    "diffusion",
    "rl",
    "decoding",
)
"""The stations in the order in which a recipe's parts are written, the domains (what only some tasks have) last.

A station's folder exists once it has a part.
"""

SURGERY = ("model", "adapter", "precision")
"""The stations whose parts change the model itself, in this order, before anything is made for its parameters."""


class Part:
    """Mix-in that declares what `Recipe` checks before step 0. Subclasses set these as plain class attributes.

    Attributes:
        station: the folder the part lives in, one of `STATIONS`.
        needs: what the training loop must provide, e.g. ``{"closure"}``.
        owns: what the part must own alone, e.g. ``{"learning rate"}``.
        order: position inside the station; lower runs first.
        space: the hyper-parameters a race tunes, with their ranges.
        horizon_free: whether the first n steps are the same whatever number of steps is planned.
    """

    station: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    owns: ClassVar[frozenset[str]] = frozenset()
    order: ClassVar[int] = 50
    space: ClassVar[Mapping[str, Knob]] = {}
    horizon_free: ClassVar[bool] = True

    @classmethod
    def name(cls) -> str:
        """Return how a recipe calls this part, which is the name of its file."""
        return cls.__module__.rpartition(".")[2]


@functools.cache
def names() -> dict[str, str]:
    """Return every bundled part as ``{name: station}``, found by listing the folders (nothing is imported)."""
    found = {}
    for station in STATIONS:
        folder = Path(__file__).parent / station
        for file in sorted(folder.glob("[!_]*.py")) if folder.is_dir() else ():
            found[file.stem] = station
    return found


@dataclass(frozen=True)
class About:
    """What a part's file says about it.

    Attributes:
        summary: one sentence.
        rule: the equations, as they stand.
        text: everything else, paragraph by paragraph, the source last.
        use: when to use it.
        leave: when not to.
        cost: extra passes, state and bytes on the wire.
    """

    summary: str
    rule: str
    text: tuple[str, ...]
    use: str
    leave: str
    cost: str


_MARKS = {"use": "Use it when ", "leave": "Leave it when ", "cost": "It costs "}


def about(name: str) -> About:
    """Return what the part's module docstring says, without importing it (so that listings start fast).

    Raises:
        SoonerError: no part has that name.
    """
    file = Path(__file__).parent / _station(name) / f"{name}.py"
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")), clean=False) or ""
    first, *rest = docstring.strip().split("\n\n")
    marked = dict.fromkeys(_MARKS, "")
    rules, text = [], []
    for paragraph in rest:
        line = " ".join(paragraph.split())
        mark = next((key for key, words in _MARKS.items() if line.startswith(words)), None)
        if mark:
            marked[mark] = line
        elif paragraph.startswith("    "):
            rules.append(textwrap.dedent(paragraph))
        else:
            text.append(line)
    return About(" ".join(first.split()), "\n\n".join(rules), tuple(text), **marked)


def summary(name: str) -> str:
    """Return the sentence that opens the part's file.

    Raises:
        SoonerError: no part has that name.
    """
    return about(name).summary


def load(name: str) -> type[Part]:
    """Import the bundled part `name` and return its class.

    Raises:
        SoonerError: no part has that name; the nearest known name is suggested.
    """
    module = importlib.import_module(f"sooner.{_station(name)}.{name}")
    classes = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
    return next(c for c in classes if issubclass(c, Part))


def _station(name: str) -> str:
    if name not in names():
        raise SoonerError(f"there is no part named {name!r}{nearest(name, names())}; `sooner parts` lists all of them")
    return names()[name]


def class_named(station: str, class_name: str) -> type[Part]:
    """Return the class `class_name` of a station, importing only the file it lives in (for ``sooner.update.Muon``).

    Raises:
        AttributeError: the station has no such class, as Python expects of a missing attribute.
    """
    for name, home in names().items():
        if home == station and name.replace("_", "") == class_name.lower():
            found = load(name)
            if found.__name__ == class_name:  # `from sooner.update import adamw` asks for the module, not the class
                return found
    raise AttributeError(f"module 'sooner.{station}' has no attribute {class_name!r}")


LARGEST = 3.4028234663852886e38
"""The largest number of float32."""


def check_range(
    part: str, name: str, value: Any, low: float, high: float, *, open_high: bool = False, whole: bool = False
) -> None:
    """Refuse a hyper-parameter outside ``[low, high]`` (or ``[low, high)``), naming what is allowed.

    A tensor is taken as it is (reading it would wait for the device), so only plain numbers are checked.

    Raises:
        SoonerError: `value` is not a number in the range, not a whole one where `whole` asks for that, or larger than
            float32 can hold, in which most arithmetic is done.
    """
    if hasattr(value, "untyped_storage"):
        return
    number = type(value) is not bool and isinstance(value, numbers.Integral if whole else numbers.Real)
    fits = number and math.isfinite(value) and (whole or abs(value) <= LARGEST)
    if not (fits and (low <= value < high if open_high else low <= value <= high)):
        kind = "a whole number" if whole else "a number"
        bound = f"{high:g})" if open_high or math.isinf(high) else f"{high:g}]"
        raise SoonerError(f"{part}: {name}={value!r} is not {kind} in [{low:g}, {bound}; choose one in that range")


def check_flags(part: str, **flags: Any) -> None:
    """Refuse switches that are neither on nor off: any text, "False" too, would count as on.

    Raises:
        SoonerError: one is not True or False (or 1 or 0).
    """
    for name, value in flags.items():
        known = isinstance(value, numbers.Integral) or type(value).__name__ in ("bool", "bool_")  # the latter of numpy
        if not known or value not in (0, 1):
            raise SoonerError(f"{part}: {name}={value!r} is neither True nor False; choose one of them")


def check_choice(part: str, name: str, value: Any, choices: Sequence[str]) -> None:
    """Refuse a hyper-parameter that is none of the choices.

    Raises:
        SoonerError: `value` is not among them; the nearest one is suggested.
    """
    if value not in choices:
        raise SoonerError(
            f"{part}: {name}={value!r}{nearest(str(value), choices)} is not one of {', '.join(choices)}; "
            "choose one of them"
        )
