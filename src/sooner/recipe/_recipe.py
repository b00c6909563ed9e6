"""A recipe: which part sits in which station, written as text such as ``muon(lr=0.02) + linear`` or in Python.

Everything that cannot work (an unknown name, two owners of one thing, an unmet need, a parameter without exactly one
optimizer) is refused in one sentence before step 0. `Recipe` is only the plan; `Recipe.build` makes a `Training` for
one model.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sooner import part as parts
from sooner.communication._wire import Wire
from sooner.error import SoonerError, nearest
from sooner.part import STATIONS, Part
from sooner.recipe.attach import attach
from sooner.recipe.partition import partition
from sooner.recipe.text import Call, parse, written
from sooner.recipe.training import Training, required_arguments
from sooner.space import Choice, Knob, Log
from sooner.update._optimizer import ChainOptimizer, Options

TORCH_SPACE: Mapping[str, Knob] = {"lr": Log(1e-4, 1e-1)}
"""What a race tunes of an optimizer that declares no space of its own, such as those of torch.optim."""

_TORCHS = ("capturable", "differentiable", "foreach", "fused")
"""How PyTorch's own optimizers run a step: no hyper-parameters, so the class itself says what becomes of them."""


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
        """Return where tuning starts: what the class declares, or the end of the range that is nearest to it."""
        declared = inspect.signature(self.factory).parameters[knob].default
        if declared is inspect.Parameter.empty:
            return self.space[knob].at(0.5)
        try:
            position = self.space[knob].unit(declared)
        except SoonerError:  # such as None, which stands for a value derived from others
            return declared
        return declared if 0 <= position <= 1 else self.space[knob].at(min(max(position, 0.0), 1.0))

    def __str__(self) -> str:
        return written(self.name, {**self.settings, **({"on": self.on} if self.on else {})}, self._own_ranges())

    def _own_ranges(self) -> dict[str, Knob]:
        declared = getattr(self.factory, "space", TORCH_SPACE)
        return {k: knob for k, knob in self.space.items() if declared.get(k) != knob}


def slot(name_or_class: str | type[Any], /, **settings: Any) -> Slot:
    """Make one part of a recipe: ``slot("muon", lr=0.02)`` or ``slot(torch.optim.NAdam, lr=1e-3)``.

    A hyper-parameter given here is fixed; one given as a range (`sooner.space.Log`, `Uniform`, `Choice`) is tuned in
    that range instead.

    Raises:
        SoonerError: unknown part or hyper-parameter.
    """
    factory = _find(name_or_class) if isinstance(name_or_class, str) else name_or_class
    if not (inspect.isclass(factory) and issubclass(factory, Part | Optimizer | LRScheduler)):
        raise SoonerError(f"{name_or_class!r} is not a part; give a name from `sooner parts` or a torch.optim class")
    name = name_or_class if isinstance(name_or_class, str) else _name_of(factory)
    station = _station_of(name, factory)
    on = settings.pop("on", None)
    if on is not None and (station != "update" or not isinstance(on, str) or not on):
        raise SoonerError(f"{name}: on={on!r} can't be used; on='pattern' tells an optimizer which parameters it takes")
    allowed = _settings_of(factory)
    for key in settings:
        if key not in allowed:
            known = ", ".join(allowed) or "none"
            raise SoonerError(f"{name} has no hyper-parameter {key!r}{nearest(key, allowed)}; it takes {known}")
    declared = getattr(factory, "space", TORCH_SPACE if issubclass(factory, Optimizer) else {})
    # numbers of numpy become Python's, so that recipes print as people write them and checkpoints hold plain values
    fixed = {k: v.item() if isinstance(v, np.generic) else v for k, v in settings.items() if not isinstance(v, Knob)}
    ranges = {k: v for k, v in settings.items() if isinstance(v, Knob)}
    space = {k: v for k, v in {**declared, **ranges}.items() if k in allowed and k not in fixed}
    return Slot(name, factory, station, fixed, space, on)


def _settings_of(factory: type[Any]) -> list[str]:
    """Return the hyper-parameters that a recipe may set: the constructor's, less what `Recipe.build` fills in."""
    attached = ("params", "optimizer", "model", "steps", "last_epoch")
    found = inspect.signature(factory).parameters.values()
    named = [p.name for p in found if p.name not in attached and p.kind is not p.VAR_KEYWORD]
    shared = any(p.kind is p.VAR_KEYWORD for p in found) and issubclass(factory, ChainOptimizer)
    return [*named, *(option for option in Options.__annotations__ if option not in attached)] if shared else named


def _station_of(name: str, factory: type[Any]) -> str:
    native = {"update": Optimizer, "schedule": LRScheduler}
    station = getattr(factory, "station", next((s for s, c in native.items() if issubclass(factory, c)), None))
    if station not in STATIONS:
        raise SoonerError(
            f"{name} belongs to no station; set its class attribute station to one of {', '.join(STATIONS)}"
        )
    return str(station)


def _find(name: str) -> type[Any]:
    prefix, _, last = name.rpartition(".")
    if not prefix:
        return parts.load(name)
    try:
        home = importlib.import_module(prefix)
    except Exception as error:  # a user's own module may raise anything while it is imported
        raise SoonerError(
            f"{name!r} is neither a part of sooner nor an importable class ({type(error).__name__}: {error}); "
            "write a bare name, torch.optim.NAME or package.NAME"
        ) from None
    found = getattr(home, last, None)
    if not inspect.isclass(found):
        known = [n for n, c in vars(home).items() if inspect.isclass(c)]
        raise SoonerError(f"{prefix} has no class {last!r}{nearest(last, known)}")
    return found


def _name_of(factory: type[Any]) -> str:
    """Return the shortest name under which `_find` finds the class."""
    module, name = factory.__module__, factory.__name__
    if module.startswith("sooner."):
        return module.rpartition(".")[2]
    return f"torch.optim.{name}" if getattr(torch.optim, name, None) is factory else f"{module}.{name}"


class Recipe:
    """The parts of one way to train, at most one per station except for optimizers that share the parameters.

    Args:
        *what: text such as ``"adamw + cosine"``, slots made by `slot`, or classes.

    Raises:
        SoonerError: the text can't be parsed, a name is unknown, two parts own the same thing, or no part moves the
            weights.
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
        self.slots: tuple[Slot, ...] = tuple(
            sorted(slots, key=lambda s: (STATIONS.index(s.station), getattr(s.factory, "order", 50)))
        )
        self._check_owners()

    def _check_owners(self) -> None:
        if not any(_moves(s) for s in self.slots):
            raise SoonerError(
                f"recipe {str(self)!r} has no part that moves the weights; add an optimizer such as adamw"
            )
        owners: dict[str, str] = {}
        for s in self.slots:
            # optimizers may share the model: whether they do is checked against its parameters
            for thing in sorted(_owns(s.factory) - {"step"}):
                if thing in owners:
                    both = f"{owners[thing]} and {s.name}"
                    raise SoonerError(f"recipe {str(self)!r}: {both} both own the {thing}; keep one of them")
                owners[thing] = s.name

    def __str__(self) -> str:
        return " + ".join(str(s) for s in self.slots)

    def __repr__(self) -> str:
        return f"Recipe({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.slots == other.slots

    def __hash__(self) -> int:
        return hash(tuple(s.name for s in self.slots))  # equal recipes may differ in the order of their settings

    def __reduce__(self) -> tuple[Any, ...]:
        return Recipe, self.slots

    @property
    def horizon_free(self) -> bool:
        """Whether the recipe trains the same first n steps whatever the planned number of steps is."""
        return all(s.horizon_free for s in self.slots)

    @property
    def space(self) -> dict[str, Knob]:
        """Everything a race tunes, keyed by hyper-parameter.

        Where two parts use the same word the key is ``part.hyper-parameter``, and where two parts have the same name
        ``part(on='pattern').hyper-parameter``.
        """
        return {self._key(s, k): knob for s in self.slots for k, knob in s.space.items()}

    @property
    def default(self) -> dict[str, Any]:
        """The parts' own defaults for everything in `space`."""
        return {self._key(s, k): s.default(k) for s in self.slots for k in s.space}

    def _key(self, owner: Slot, knob: str) -> str:
        sharing = [s.name for s in self.slots if knob in s.space]
        if len(sharing) == 1:
            return knob
        name = owner.name if sharing.count(owner.name) == 1 else f"{owner.name}(on={owner.on!r})"
        return f"{name}.{knob}"

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
        """Return this stack with one difference from `baseline` undone at a time; empty if there are fewer than two."""
        ours, theirs = self._by_station(), baseline._by_station()
        different = [station for station in STATIONS if ours.get(station) != theirs.get(station)]
        if len(different) < 2:
            return []
        mixed = [{**ours, station: theirs.get(station, ())} for station in different]
        return [Recipe(*(s for group in one.values() for s in group)) for one in mixed]

    def _by_station(self) -> dict[str, tuple[Slot, ...]]:
        present = {s.station for s in self.slots}
        return {name: tuple(s for s in self.slots if s.station == name) for name in STATIONS if name in present}

    def build(self, model: nn.Module, steps: int, provides: Iterable[str] = (), wire: Wire | None = None) -> Training:
        """Make the recipe's parts for one model.

        Where several processes train together (torch.distributed is initialised), a recipe without communication parts
        averages gradients as they are, unless the model sees to that itself (DDP, FSDP2).

        Args:
            model: the model to train, already on its device.
            steps: number of optimizer steps planned; schedules end there.
            provides: what the caller's loop offers beyond plain gradients, e.g. ``{"closure"}``.
            wire: connects the workers; None for the default process group.

        Raises:
            SoonerError: an unmet need, a parameter with no or two optimizers, or a part that refuses the model.
        """
        offered = set(provides)
        for s in self.slots:
            for need in sorted(_needs(s.factory) - offered):
                wanted = need if need.endswith("s") else f"a {need}"
                raise SoonerError(
                    f"{s.name} needs {wanted}, which this training loop does not provide; "
                    "use another part or a loop of your own"
                )
        updates = [s for s in self.slots if _moves(s)]
        shares = partition([(s.name, s.on) for s in updates], model)
        optimizers = [_optimizer(s, model, share) for s, share in zip(updates, shares, strict=True)]
        by_station = {name: [s for s in self.slots if s.station == name and not _moves(s)] for name in STATIONS}
        # before everything that looks at gradients, so that it sees their average
        sent = [_make(s) for s in by_station.pop("communication")]
        selfish = [s.name for s in self.slots if s.station in ("update", "schedule") and _needs(s.factory)]
        communication = attach(sent, model, optimizers, wire, selfish, steps)
        schedules = [
            _make(s, optimizer, **({"steps": steps} if "steps" in inspect.signature(s.factory).parameters else {}))
            for s in by_station.pop("schedule")
            for optimizer in optimizers
        ]
        others = [_make(s, **_attachments(s, model, optimizers)) for some in by_station.values() for s in some]
        return Training(model, optimizers, schedules, others, communication)


def explain(recipe: Recipe | str) -> str:
    """Return the resolved order of a recipe's parts, a line each: station, part, what it owns, needs and tunes."""
    made = recipe if isinstance(recipe, Recipe) else Recipe(recipe)
    lines = []
    for s in made.slots:
        owns, needs = sorted(_owns(s.factory)), sorted(_needs(s.factory))
        facts = [f"owns the {', '.join(owns)}"] if owns else []
        facts += [f"needs {', '.join(needs)}"] if needs else []
        facts += [f"tunes {k} in {_range(knob)}, default {s.default(k)!r}" for k, knob in s.space.items()]
        facts += [] if s.horizon_free else ["plans for a fixed number of steps"]
        lines.append(f"{s.station:<14} {s}")
        lines += [f"{'':<14}   {'; '.join(facts)}"] if facts else []
    return "\n".join(lines)


def _range(knob: Knob) -> str:
    if isinstance(knob, Choice):
        return f"{{{', '.join(map(repr, knob.values))}}}"
    return f"[{knob.low:g}, {knob.high:g}]"


def create_optimizer(model: Any, name: str, /, **settings: Any) -> Optimizer:
    """Return the optimizer of that name for a model: ``create_optimizer(model, "muon", lr=0.02)``.

    The same as calling the class, for programs whose optimizer is a word in a configuration file.

    Args:
        model: what the optimizer takes: a whole `nn.Module` (from which methods that treat parameters by kind see names
            and modules), parameters, named parameters, or groups.
        name: a part of the update station, as `sooner parts` lists them, or a class such as ``torch.optim.NAdam``.
        settings: its hyper-parameters and options, such as ``lr``; the others keep their defaults.

    Raises:
        SoonerError: no optimizer has that name (the nearest one is suggested), it is another kind of part or goes
            around an optimizer, or a hyper-parameter is unknown, a range or outside its range.
    """
    bundled = [part for part, station in parts.names().items() if station == "update"]
    if name not in bundled and not ("." in name and name.replace(".", "_").isidentifier()):
        station = parts.names().get(name)
        why = f"{name!r} is a part of the station {station}" if station else f"there is no optimizer named {name!r}"
        raise SoonerError(
            f"{why}{nearest(name, bundled)}; create_optimizer takes {', '.join(bundled)}, or a class such as "
            "'torch.optim.NAdam', and their settings as keywords"
        )
    if "on" in settings:
        raise SoonerError(f"{name}: on={settings['on']!r} belongs to recipes; give the parameters instead of the model")
    passed = {key: value for key, value in settings.items() if key not in _TORCHS}
    made = slot(name, **passed)
    if not _moves(made):
        raise SoonerError(
            f"{name} goes around other optimizers; make one of them, and then {made.factory.__name__} with it"
        )
    for key, value in settings.items():
        if isinstance(value, Knob):
            raise SoonerError(f"{name}: {key} is a range, which only a race tunes; give a value")
    if isinstance(model, nn.Module) and not issubclass(made.factory, Part):
        model = [p for p in model.parameters() if p.requires_grad]
    return _make(replace(made, settings=settings), model)  # type: ignore[no-any-return]


def _slot_of(call: Call, text: str) -> Slot:
    try:
        return slot(call.name, **call.settings)
    except SoonerError as error:
        raise SoonerError(f"recipe {text!r}, column {call.column}: {error}") from None


def _moves(s: Slot) -> bool:
    """Whether the part is an optimizer, rather than something around one."""
    return s.station == "update" and issubclass(s.factory, Optimizer)


def _attachments(s: Slot, model: nn.Module, optimizers: list[Optimizer]) -> dict[str, Any]:
    """Return what the part's constructor asks for by name."""
    offered = {"model": model, "optimizer": optimizers[0] if len(optimizers) == 1 else optimizers}
    return {name: offered[name] for name in inspect.signature(s.factory).parameters if name in offered}


def _owns(factory: type[Any]) -> frozenset[str]:
    native = {"learning rate"} if issubclass(factory, LRScheduler) else set()
    return frozenset(getattr(factory, "owns", native))


def _needs(factory: type[Any]) -> frozenset[str]:
    """Return what the part declares, or for PyTorch's own classes what their `step` can't do without."""
    if issubclass(factory, Part):
        return factory.needs
    return required_arguments(factory)


def _make(s: Slot, *args: Any, **more: Any) -> Any:
    try:
        return s.factory(*args, **more, **s.settings)
    except SoonerError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise SoonerError(f"{s.name} can't be made with {dict(s.settings)}: {error}") from error


def _optimizer(s: Slot, model: nn.Module, share: set[str]) -> Any:
    named = [(n, p) for n, p in model.named_parameters() if n in share]
    if not issubclass(s.factory, ChainOptimizer):
        return _make(s, [p for _, p in named])
    whole = len(named) == sum(1 for _ in model.named_parameters())
    return _make(s, model) if whole else _make(s, named, model=model)  # names alone don't say what a parameter is
