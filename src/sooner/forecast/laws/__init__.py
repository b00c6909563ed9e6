"""The laws, one file each; `find` makes one from its name."""

from __future__ import annotations

import importlib
import pkgutil

from sooner.error import SoonerError, nearest
from sooner.forecast.law import Law


def classes() -> dict[str, type[Law]]:
    """Return every law by name, in alphabetical order."""
    found: dict[str, type[Law]] = {}
    for module in pkgutil.iter_modules(__path__):
        for value in vars(importlib.import_module(f"{__name__}.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, Law) and value.__module__.endswith(module.name):
                found[value.name] = value
    return dict(sorted(found.items()))


def names() -> list[str]:
    """Return the names of all laws."""
    return list(classes())


def find(name: str, over: str | None = None) -> Law:
    """Return the law of this name.

    Args:
        name: such as chinchilla.
        over: the column that a law in one quantity takes as x; its own default where left out.

    Raises:
        SoonerError: there is no such law (names the nearest), or it is not one in a single quantity of choice.
    """
    known = classes()
    if name not in known:
        raise SoonerError(f"there is no law {name!r}{nearest(name, known)}; there are {', '.join(known)}")
    if over is None:
        return known[name]()
    try:
        return known[name](over)  # type: ignore[call-arg]
    except TypeError:
        raise SoonerError(f"{name} is a law in {', '.join(known[name].needs)}; leave --over out") from None
