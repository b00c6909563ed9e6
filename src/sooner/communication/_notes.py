"""What is odd about communication, but no error: it is logged when it begins."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sooner.communication._outer import Outer
from sooner.communication._wire import Wire
from sooner.part import Part

log = logging.getLogger(__name__)

_said: set[str] = set()


def say(parts: Sequence[Part], wire: Wire, outer: Outer | None, steps: int | None) -> None:
    """Log, once in a process, that nothing is sent, and on the first rank that the windows are longer than the run.

    Args:
        parts: what the user has asked for.
        wire: connects the workers.
        outer: the outer part, if there is one.
        steps: how many optimizer steps are planned, if that is known.
    """
    if wire.size == 1 and parts and not _said:
        _said.add("alone")
        names = " + ".join(part.name() for part in parts)
        log.warning("there is one worker only: %s is at work, but nothing is sent", names)
    if outer is not None and steps is not None and outer.every > steps and wire.rank == 0:
        log.warning(
            "%s: every=%d is more than the %d steps of the run, so that weights are averaged only at its end",
            outer.name(),
            outer.every,
            steps,
        )
