"""The slots of a recipe: each names one part, its fixed settings and what a race tunes of it. Nothing is made yet."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

import numpy as np
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from sooner import part as parts
from sooner.error import SoonerError, nearest
from sooner.part import STATIONS, Part
from sooner.recipe.text import Call, parse, written
from sooner.space import Knob, Log
from sooner.update._optimizer import ChainOptimizer
from sooner.update._options import Options

TORCH_SPACE: Mapping[str, Knob] = {"lr": Log(1e-4, 1e-1)}
"""What a race tunes of an optimizer that declares no space of its own, such as those of torch.optim."""

SHORT: Mapping[str, str] = {"wsd": "warmup_stable_decay"}
"""Names that people write, and the part that they mean."""

WHOLE: Mapping[str, str] = {
    "recommended": "clip_norm(max_norm=1.0) + all_round(lr=0.01) + constant(warmup=20) + power_ema(width=0.14)"
}
"""Words for whole recipes. Their numbers were chosen by `benchmarks/one_configuration.py`."""


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

    @property
    def moves(self) -> bool:
        """Whether the part is an optimizer, rather than something around one."""
        return self.station == "update" and issubclass(self.factory, Optimizer)

    @property
    def owns(self) -> frozenset[str]:
        """What the part must have alone."""
        native = {"learning rate"} if issubclass(self.factory, LRScheduler) else set()
        return frozenset(getattr(self.factory, "owns", native))

    @property
    def needs(self) -> frozenset[str]:
        """What the part declares, or for PyTorch's own classes what their `step` can't do without."""
        return self.factory.needs if issubclass(self.factory, Part) else required_arguments(self.factory)

    @property
    def takes(self) -> frozenset[str]:
        """The names of the arguments of its constructor."""
        return frozenset(inspect.signature(self.factory).parameters)

    def make(self, *args: Any, **more: Any) -> Any:
        """Return the part, made with its settings and with what is given here.

        Raises:
            SoonerError: it can't be made with these.
        """
        try:
            return self.factory(*args, **more, **self.settings)
        except SoonerError:
            raise
        except (TypeError, ValueError, RuntimeError) as error:
            raise SoonerError(f"{self.name} can't be made with {dict(self.settings)}: {error}") from error

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


def read(text: str) -> list[Slot]:
    """Return the slots of a recipe's text, in the order written.

    Raises:
        SoonerError: the text is not a recipe, or a part or a setting is unknown; names the column.
    """
    return [one for call in parse(text) for one in _slots_of(call, text)]


def _slots_of(call: Call, text: str) -> list[Slot]:
    whole = WHOLE.get(call.name)
    if whole is None:
        return [_slot_of(call, text)]
    if call.settings:
        raise SoonerError(
            f"recipe {text!r}: {call.name} stands for {whole!r} and takes no settings; write that out to change it"
        )
    return read(whole)


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
    name = SHORT.get(name_or_class, name_or_class) if isinstance(name_or_class, str) else _name_of(factory)
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
    attached: tuple[str, ...] = ("params", "optimizer", "model", "steps", "last_epoch")
    if getattr(factory, "station", None) == "data":  # what the loop's examples and `Recipe.sampler` say
        attached += ("domains", "labels", "weights", "batch_size", "seed", "start", "rank", "world")
    found = inspect.signature(factory).parameters.values()
    named = [p.name for p in found if p.name not in attached and p.kind is not p.VAR_KEYWORD]
    shared = any(p.kind is p.VAR_KEYWORD for p in found) and issubclass(factory, ChainOptimizer)
    return [*named, *(option for option in Options.__annotations__ if option not in attached)] if shared else named


def names_rule(name: str) -> bool:
    """Return whether a name is that of an update rule, rather than of another part, an option or nothing."""
    try:
        return slot(name).moves
    except SoonerError:
        return False


def switches(factory: type[Any]) -> list[str]:
    """Return the hyper-parameters of a part that are off unless they are switched on, such as ``cautious``."""
    shared = [name for name, kind in get_type_hints(Options).items() if kind is bool]
    own = [name for name, one in inspect.signature(factory).parameters.items() if one.default is False]
    return [name for name in _settings_of(factory) if name in own or name in shared]


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
        return parts.load(SHORT.get(name, name))
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


def _slot_of(call: Call, text: str) -> Slot:
    try:
        return slot(call.name, **call.settings)
    except SoonerError as error:
        raise SoonerError(f"recipe {text!r}, column {call.column}: {error}") from None


def required_arguments(factory: type[Any]) -> frozenset[str]:
    """Return what the `step` of a class of PyTorch can't do without, such as the closure of `torch.optim.LBFGS`."""
    arguments = list(inspect.signature(factory.step).parameters.values())[1:]
    return frozenset(a.name for a in arguments if a.default is a.empty and a.kind is a.POSITIONAL_OR_KEYWORD)
