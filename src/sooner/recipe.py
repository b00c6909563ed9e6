"""A recipe: which part sits in which station, written as text such as ``muon(lr=0.02) + linear`` or in Python.

Everything that cannot work (an unknown name, two owners of one thing, an unmet need, a parameter without exactly one optimizer) is refused in
one sentence before step 0. `Recipe` is only the plan; `Recipe.build` makes a `Training` for one model.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sooner import part as parts
from sooner.error import SoonerError, nearest
from sooner.part import STATIONS, Part
from sooner.recipe_text import Call, parse, written
from sooner.space import Knob, Log
from sooner.training import Training

TORCH_SPACE: Mapping[str, Knob] = {"lr": Log(1e-4, 1e-1)}
"""What a race tunes of an optimizer that declares no space of its own, such as those of torch.optim."""


@dataclass(frozen=True)
class Slot:
    """One part of a recipe.

    Attributes:
        name: how it is written, such as ``muon`` or ``torch.optim.NAdam``.
        factory: the class that makes it.
        station: the station it belongs to.
        settings: hyper-parameters that are fixed.
        space: hyper-parameters that a race tunes.
        on: which parameters an optimizer takes: a name pattern, ``!`` and a pattern, ``rest``, or None for all.
    """

    name: str
    factory: type[Any]
    station: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    space: Mapping[str, Knob] = field(default_factory=dict)
    on: str | None = None

    @property
    def horizon_free(self) -> bool:
        """Whether the first n steps do not depend on the number of steps planned."""
        return bool(getattr(self.factory, "horizon_free", True))

    def default(self, knob: str) -> Any:
        """Return the default of a hyper-parameter, as the class declares it (the middle of its range if it declares none)."""
        declared = inspect.signature(self.factory).parameters[knob].default
        return self.space[knob].at(0.5) if declared is inspect.Parameter.empty else declared

    def __str__(self) -> str:
        return written(self.name, {**self.settings, **({"on": self.on} if self.on else {})}, self._own_ranges())

    def _own_ranges(self) -> dict[str, Knob]:
        declared = getattr(self.factory, "space", TORCH_SPACE)
        return {k: knob for k, knob in self.space.items() if declared.get(k) != knob}


def slot(name_or_class: str | type[Any], /, **settings: Any) -> Slot:
    """Make one part of a recipe: ``slot("muon", lr=0.02)`` or ``slot(torch.optim.NAdam, lr=1e-3)``.

    A hyper-parameter given here is fixed; one given as a range (`sooner.space.Log`, `Uniform`, `Choice`) is tuned in that range instead.

    Raises:
        SoonerError: unknown part or hyper-parameter.
    """
    factory = _find(name_or_class) if isinstance(name_or_class, str) else name_or_class
    name = name_or_class if isinstance(name_or_class, str) else _name_of(factory)
    if not (inspect.isclass(factory) and issubclass(factory, Part | Optimizer | LRScheduler)):
        raise SoonerError(f"{name!r} is not a part; give a name from `sooner parts` or a torch.optim class")
    on = settings.pop("on", None)
    allowed = [n for n in inspect.signature(factory).parameters if n not in ("params", "optimizer", "steps", "last_epoch")]
    for key in settings:
        if key not in allowed:
            raise SoonerError(f"{name} has no hyper-parameter {key!r}{nearest(key, allowed)}; it takes {', '.join(allowed)}")
    station = getattr(factory, "station", "update" if issubclass(factory, Optimizer) else "schedule")
    declared = getattr(factory, "space", TORCH_SPACE if issubclass(factory, Optimizer) else {})
    fixed = {k: v for k, v in settings.items() if not isinstance(v, Knob)}
    ranges = {k: v for k, v in settings.items() if isinstance(v, Knob)}
    space = {k: v for k, v in {**declared, **ranges}.items() if k in allowed and k not in fixed}
    return Slot(name, factory, station, fixed, space, on)


def _find(name: str) -> type[Any]:
    prefix, _, last = name.rpartition(".")
    if not prefix:
        return parts.load(name)
    try:
        home = importlib.import_module(prefix)
    except ImportError as error:
        raise SoonerError(
            f"{name!r} is neither a part of sooner nor an importable class ({error}); write a bare name, torch.optim.NAME or package.NAME"
        ) from None
    found = getattr(home, last, None)
    if not inspect.isclass(found):
        known = [n for n, c in vars(home).items() if inspect.isclass(c)]
        raise SoonerError(f"{prefix} has no class {last!r}{nearest(last, known)}")
    return found


def _name_of(factory: type[Any]) -> str:
    if factory.__module__.startswith("sooner."):
        return factory.__module__.rpartition(".")[2]
    home = "torch.optim" if factory.__module__.startswith("torch.optim") else factory.__module__
    return f"{home}.{factory.__name__}"


class Recipe:
    """The parts of one way to train, at most one per station except for optimizers that share the parameters.

    Args:
        *what: text such as ``"adamw + cosine"``, slots made by `slot`, or classes.

    Raises:
        SoonerError: the text can't be parsed, a name is unknown, two parts own the same thing, or no part moves the weights.
    """

    def __init__(self, *what: str | Slot | type[Any] | Recipe) -> None:
        slots: list[Slot] = []
        for item in what:
            if isinstance(item, str):
                slots += [_slot_of(call, item) for call in parse(item)]
            elif isinstance(item, Recipe):
                slots += item.slots
            else:
                slots.append(item if isinstance(item, Slot) else slot(item))
        self.slots = tuple(sorted(slots, key=lambda s: (STATIONS.index(s.station), getattr(s.factory, "order", 50))))
        self._check_owners()

    def _check_owners(self) -> None:
        if not any(s.station == "update" for s in self.slots):
            raise SoonerError(f"recipe {str(self)!r} has no part that moves the weights; add an optimizer such as adamw")
        owners: dict[str, str] = {}
        for s in self.slots:
            default = {"learning rate"} if s.station == "schedule" else set()
            for thing in getattr(s.factory, "owns", default):
                if thing == "step":
                    continue  # optimizers may share the model: the partition is checked against its parameters
                if thing in owners:
                    raise SoonerError(f"recipe {str(self)!r}: {owners[thing]} and {s.name} both own the {thing}; keep one of them")
                owners[thing] = s.name

    def __str__(self) -> str:
        return " + ".join(str(s) for s in self.slots)

    def __repr__(self) -> str:
        return f"Recipe({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.slots == other.slots

    def __hash__(self) -> int:
        return hash(str(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return Recipe, self.slots

    @property
    def horizon_free(self) -> bool:
        """Whether the recipe trains the same first n steps whatever the planned number of steps is."""
        return all(s.horizon_free for s in self.slots)

    @property
    def space(self) -> dict[str, Knob]:
        """Everything a race tunes, keyed by hyper-parameter, or by ``part.hyper-parameter`` where two parts use the same word."""
        return {self._key(s, k): knob for s in self.slots for k, knob in s.space.items()}

    @property
    def default(self) -> dict[str, Any]:
        """The parts' own defaults for everything in `space`."""
        return {self._key(s, k): s.default(k) for s in self.slots for k in s.space}

    def _key(self, owner: Slot, knob: str) -> str:
        shared = sum(knob in s.space for s in self.slots) > 1
        return f"{owner.name}.{knob}" if shared else knob

    def with_settings(self, settings: Mapping[str, Any]) -> Recipe:
        """Return the recipe with some of its tunable hyper-parameters fixed (keys as in `space`).

        Raises:
            SoonerError: a key that is not tunable in this recipe.
        """
        for key in settings:
            if key not in self.space:
                raise SoonerError(f"recipe {str(self)!r} does not tune {key!r}{nearest(key, self.space)}")
        slots = []
        for s in self.slots:
            chosen = {k: settings[self._key(s, k)] for k in s.space if self._key(s, k) in settings}
            rest = {k: v for k, v in s.space.items() if k not in chosen}
            slots.append(replace(s, settings={**s.settings, **chosen}, space=rest))
        return Recipe(*slots)

    def left_out(self, baseline: Recipe) -> list[Recipe]:
        """Return this stack with one difference from `baseline` undone at a time (empty when there are fewer than two)."""
        ours, theirs = self._by_station(), baseline._by_station()
        different = [station for station in STATIONS if ours.get(station) != theirs.get(station)]
        if len(different) < 2:
            return []
        return [Recipe(*(s for group in ({**ours, station: theirs.get(station, ())}).values() for s in group)) for station in different]

    def _by_station(self) -> dict[str, tuple[Slot, ...]]:
        return {station: found for station in STATIONS if (found := tuple(s for s in self.slots if s.station == station))}

    def build(self, model: nn.Module, steps: int, provides: Iterable[str] = ()) -> Training:
        """Make the recipe's parts for one model.

        Args:
            model: the model to train, already on its device.
            steps: number of optimizer steps planned; schedules end there.
            provides: what the caller's loop offers beyond plain gradients, e.g. ``{"closure"}``.

        Raises:
            SoonerError: an unmet need, a parameter with no or two optimizers, or a part that refuses the model.
        """
        for s in self.slots:
            for need in sorted(_needs(s.factory) - set(provides)):
                raise SoonerError(f"{s.name} needs a {need}, which this training loop does not provide; use another part or your own loop")
        updates = [s for s in self.slots if s.station == "update"]
        optimizers = [_optimizer(s, model, shared) for s, shared in zip(updates, _partition(updates, model), strict=True)]
        schedules = [
            _make(s, optimizer, **({"steps": steps} if "steps" in inspect.signature(s.factory).parameters else {}))
            for s in self.slots
            if s.station == "schedule"
            for optimizer in optimizers
        ]
        others = [_make(s, model) for s in self.slots if s.station not in ("update", "schedule")]
        return Training(model, optimizers, schedules, others)


def explain(recipe: Recipe | str) -> str:
    """Return the resolved order of a recipe's parts, a line each: station, part, what it owns, needs and tunes."""
    made = recipe if isinstance(recipe, Recipe) else Recipe(recipe)
    lines = []
    for s in made.slots:
        facts = [f"owns {', '.join(sorted(getattr(s.factory, 'owns', ())))}"] if getattr(s.factory, "owns", ()) else []
        facts += [f"needs {', '.join(sorted(_needs(s.factory)))}"] if _needs(s.factory) else []
        facts += [f"tunes {k} in {_range(knob)}, default {s.default(k):g}" for k, knob in s.space.items()]
        facts += [] if s.horizon_free else ["plans for a fixed number of steps"]
        lines.append(f"{s.station:<14} {s}\n{'':<14}   {'; '.join(facts)}")
    return "\n".join(lines)


def _range(knob: Knob) -> str:
    shown = knob.describe()
    return str(shown["values"]) if "values" in shown else f"[{shown['low']:g}, {shown['high']:g}]"


def _slot_of(call: Call, text: str) -> Slot:
    try:
        return slot(call.name, **call.settings)
    except SoonerError as error:
        raise SoonerError(f"recipe {text!r}, column {call.column}: {error}") from None


def _needs(factory: type[Any]) -> frozenset[str]:
    if issubclass(factory, Part):
        return factory.needs
    step = inspect.signature(factory.step).parameters.get("closure")
    return frozenset({"closure"}) if step is not None and step.default is inspect.Parameter.empty else frozenset()


def _make(s: Slot, *args: Any, **more: Any) -> Any:
    try:
        return s.factory(*args, **more, **s.settings)
    except SoonerError:
        raise
    except (TypeError, ValueError) as error:
        raise SoonerError(f"{s.name} can't be made with {dict(s.settings)}: {error}") from error


def _optimizer(s: Slot, model: nn.Module, chosen: set[str]) -> Optimizer:
    if issubclass(s.factory, Part):
        rest = {n for n, _ in model.named_parameters()} - chosen
        made: Optimizer = _make(s, model if not rest else _only(model, chosen))
        return made
    made = _make(s, [p for n, p in model.named_parameters() if n in chosen])
    return made


def _only(model: nn.Module, chosen: set[str]) -> list[tuple[str, nn.Parameter]]:
    return [(n, p) for n, p in model.named_parameters() if n in chosen]


def _partition(updates: list[Slot], model: nn.Module) -> list[set[str]]:
    """Return, per optimizer, the names of the parameters it takes; every parameter must have exactly one."""
    import fnmatch

    names = [n for n, _ in model.named_parameters()]
    if not names:
        raise SoonerError("the model has no parameters to train; return a model with parameters that require gradients")
    taken: dict[str, list[str]] = {n: [] for n in names}
    chosen: list[set[str]] = []
    for s in updates:
        pattern = s.on or "*"
        negated, glob = pattern.startswith("!"), pattern.removeprefix("!")
        mine = set() if s.on == "rest" else {n for n in names if fnmatch.fnmatchcase(n, glob) is not negated}
        chosen.append(mine)
        for n in mine:
            taken[n].append(s.name)
    rest = {n for n, owners in taken.items() if not owners}
    for i, s in enumerate(updates):
        if s.on == "rest":
            chosen[i] = set(rest)
            for n in rest:
                taken[n].append(s.name)
        if not chosen[i]:
            raise SoonerError(f"{s.name} takes no parameter of this model: on={s.on!r} matches none of {', '.join(names[:4])}, …")
    for n, owners in taken.items():
        if len(owners) > 1:
            raise SoonerError(f"parameter {n!r} has two optimizers, {owners[0]} and {owners[1]}; divide the model with on='pattern' and on='rest'")
        if not owners:
            raise SoonerError(f"parameter {n!r} has no optimizer; add a part with on='rest'")
    return chosen
