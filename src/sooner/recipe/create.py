"""One optimizer by its name, for programs whose optimizer is a word in a configuration file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn
from torch.optim import Optimizer

from sooner import part as parts
from sooner.error import SoonerError, nearest
from sooner.part import Part
from sooner.recipe.slots import slot
from sooner.space import Knob

_TORCHS = ("capturable", "differentiable", "foreach", "fused")
"""How PyTorch's own optimizers run a step: no hyper-parameters, so the class itself says what becomes of them."""


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
    if not made.moves:
        raise SoonerError(
            f"{name} goes around other optimizers; make one of them, and then {made.factory.__name__} with it"
        )
    for key, value in settings.items():
        if isinstance(value, Knob):
            raise SoonerError(f"{name}: {key} is a range, which only a race tunes; give a value")
    if isinstance(model, nn.Module) and not issubclass(made.factory, Part):
        model = [p for p in model.parameters() if p.requires_grad]
    return replace(made, settings=settings).make(model)  # type: ignore[no-any-return]
