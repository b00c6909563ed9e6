"""The calibrated lab: effects that every practitioner relies on, and on which workloads they are seen here.

A referee can be honest and still blind. Each file is one truth, or an oracle whose size is known by construction:
what it says, its source, the experiments that should show it, and the size expected, fixed before the run. A negative
verdict on a method means something only on workloads that show the truths it stands on.

This module lists and finds truths without importing torch, so that the command line starts fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sooner.lab._panel import load, names

if TYPE_CHECKING:
    from sooner.claims._claim import Outcome

__all__ = ["does_not_show", "load", "names", "shown", "shows"]


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
