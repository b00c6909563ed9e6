"""Communication parts that do not go together in a simulated cluster."""

from __future__ import annotations

import logging

from sooner.communication._cohort import Cohort
from sooner.communication._local import Local
from sooner.communication._outer import Outer
from sooner.error import SoonerError

log = logging.getLogger(__name__)


def refuse_misfits(outer: Outer | None, local: Local | None, cohort: Cohort, steps: int, common: bool) -> None:
    """Refuse parts that need what the others do not leave them, and warn of an outer part that comes too late.

    Args:
        outer: the outer part, None for none.
        local: the local part, None for none.
        cohort: who takes part.
        steps: of the run.
        common: whether all workers have the same weights at all times.

    Raises:
        SoonerError: says which parts, and what to do.
    """
    if common and local is not None and local.needs_window:
        raise SoonerError(
            f"{local.name()} needs workers that take steps of their own; add an outer part such as local_sgd"
        )
    if common and cohort.uneven:
        raise SoonerError(
            f"{cohort.name()} lets workers take their own number of steps; add an outer part such as afa_cd"
        )
    if outer is not None and cohort.oldest and not outer.takes_stale:
        raise SoonerError(
            f"{cohort.name()} lets workers start from old weights, which {outer.name()} can't use; use afa_cd or "
            "afa_cs, or set oldest=0"
        )
    if outer is not None and outer.every > steps:
        log.warning(
            "%s: every=%d is more than the %d steps of the run, so that weights are averaged only at its end",
            outer.name(),
            outer.every,
            steps,
        )
