"""From a checked plan and a prepared model to a training: who takes which parameters, and everything around that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from sooner.communication._wire import Wire
from sooner.part import STATIONS, SURGERY
from sooner.recipe.attach import attach
from sooner.recipe.partition import partition
from sooner.recipe.slots import Slot
from sooner.recipe.training import Training
from sooner.update._optimizer import ChainOptimizer


def assemble(slots: Sequence[Slot], model: nn.Module, surgeons: list[Any], steps: int, wire: Wire | None) -> Training:
    """Return the training of a model whose surgery is done.

    Args:
        slots: of the recipe, in order.
        model: the model.
        surgeons: the parts that have changed it.
        steps: number of optimizer steps planned.
        wire: connects the workers; None for the default process group.

    Raises:
        SoonerError: a parameter with no or two optimizers, or a part that refuses the model.
    """
    updates = [s for s in slots if s.moves]
    shares = partition([(s.name, s.on) for s in updates], model)
    optimizers = [_optimizer(s, model, share) for s, share in zip(updates, shares, strict=True)]
    rest = {
        name: [s for s in slots if s.station == name and not s.moves]
        for name in STATIONS
        if name not in ("data", *SURGERY)  # what a step sees is the loop's to draw, see `Recipe.sampler`
    }
    # before everything that looks at gradients, so that it sees their average
    sent = [s.make() for s in rest.pop("communication")]
    selfish = [s.name for s in slots if s.station in ("update", "schedule") and s.needs]
    communication = attach(sent, model, optimizers, wire, selfish, steps)
    schedules = [
        s.make(optimizer, **({"steps": steps} if "steps" in s.takes else {}))
        for s in rest.pop("schedule")
        for optimizer in optimizers
    ]
    others = [s.make(**_attachments(s, model, optimizers)) for some in rest.values() for s in some]
    return Training(model, optimizers, schedules, [*surgeons, *others], communication)


def _optimizer(s: Slot, model: nn.Module, share: set[str]) -> Any:
    named = [(n, p) for n, p in model.named_parameters() if n in share]
    if not issubclass(s.factory, ChainOptimizer):
        return s.make([p for _, p in named])
    whole = len(named) == sum(1 for _ in model.named_parameters())
    return s.make(model) if whole else s.make(named, model=model)  # names alone don't say what a parameter is


def _attachments(s: Slot, model: nn.Module, optimizers: list[Optimizer]) -> dict[str, Any]:
    """Return what the part's constructor asks for by name."""
    offered = {"model": model, "optimizer": optimizers[0] if len(optimizers) == 1 else optimizers}
    return {name: offered[name] for name in s.takes if name in offered}
