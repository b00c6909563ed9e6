"""The calibrated lab: effects that every practitioner relies on, and on which workloads they are seen here.

A referee can be honest and still blind. Each file is one truth, or an oracle whose size is known by construction:
what it says, its source, the experiments that should show it, and the size expected, fixed before the run. A negative
verdict on a method means something only on workloads that show the truths it stands on.

This module lists and finds truths without importing torch, so that the command line starts fast.
"""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from sooner.error import SoonerError, nearest

if TYPE_CHECKING:
    from sooner.claims._claim import Outcome
    from sooner.lab._truth import Truth

__all__ = ["does_not_show", "load", "names", "shown", "shows"]


@functools.cache
def names() -> list[str]:
    """Return the names of the truths, sorted (nothing is imported)."""
    return sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py"))


def load(name: str) -> Truth:
    """Import and return the truth `name`.

    Raises:
        SoonerError: no truth has that name; the nearest known name is suggested.
    """
    if name not in names():
        raise SoonerError(f"there is no truth named {name!r}{nearest(name, names())}; `sooner lab --list` names them")
    found: Truth = importlib.import_module(f"sooner.lab.{name}").TRUTH
    return found


def shown(truth: str, workload: str) -> Outcome | None:
    """Return what the published evidence says of a truth on a workload; None where it has not been looked for there.

    The figure is that of the truth's first criterion there; `met` says whether all of them are.

    Raises:
        SoonerError: no truth has that name, or its evidence is damaged.
    """
    from sooner.lab import _evidence

    if truth not in names():
        load(truth)  # which says what is wrong
    evidence = _evidence.find(truth)
    return evidence.outcome(workload) if evidence else None


def shows(workload: str) -> list[str]:
    """Return the truths that the published evidence shows on a workload, sorted (torch is not imported)."""
    from sooner.lab import _published

    return sorted(truth for truth, found in _published.summary().items() if found.get(workload))


def does_not_show(workload: str) -> list[str]:
    """Return the truths that were looked for on a workload and not seen there, sorted (torch is not imported)."""
    from sooner.lab import _published

    return sorted(truth for truth, found in _published.summary().items() if found.get(workload) is False)
