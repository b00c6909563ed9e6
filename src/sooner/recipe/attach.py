"""How the communication parts of a recipe meet a model: all of them become one `Communication` on its optimizers."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from torch import nn
from torch.optim import Optimizer

from sooner.communication._attached import Communication
from sooner.communication._averages_itself import averages_itself
from sooner.communication._cohort import Cohort
from sooner.communication._doubts import doubts
from sooner.communication._group import Group
from sooner.communication._wire import Wire
from sooner.error import SoonerError
from sooner.part import Part

log = logging.getLogger(__name__)


def attach(
    parts: Sequence[Part],
    model: nn.Module,
    optimizers: list[Optimizer],
    wire: Wire | None,
    selfish: Sequence[str],
    steps: int | None = None,
) -> Communication | None:
    """Return what lets the workers train this model together; None where one process trains it alone.

    Args:
        parts: of the communication station; none means that gradients are averaged as they are.
        model: the model.
        optimizers: those that move its weights.
        wire: connects the workers; None for the default process group.
        selfish: names of optimizers and schedules that look at their own worker's batch.
        steps: how many optimizer steps are planned.

    Raises:
        SoonerError: a part that only a simulated cluster can have, or workers that would go apart unnoticed.
    """
    wire = wire or Group()
    if not parts and (wire.size == 1 or averages_itself(model)):
        return None
    for part in parts:
        if isinstance(part, Cohort):
            raise SoonerError(
                f"{part.name()} says which of many simulated workers take part, and here every worker does; race it "
                "with --workers, or leave it out"
            )
    made = Communication(model, optimizers, parts, wire, steps=steps)
    if selfish and wire.size > 1 and made.averages_gradients:
        made.detach()
        raise SoonerError(
            f"{selfish[0]} looks at the batch of its own worker, so workers that average gradients would go apart "
            "unnoticed; use another part, or add one that averages weights, such as local_sgd"
        )
    if wire.size > 1 and wire.rank == 0:  # one worker hears from `Communication` that nothing is sent
        for doubt in doubts(parts, optimizers, wire.size):
            if doubt not in _said:
                _said.add(doubt)
                log.warning("%s", doubt)
    return made


_said: set[str] = set()
