"""The first thing that is done for a recipe: its parts that change the model itself do so, one after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from torch import nn

from sooner.error import SoonerError
from sooner.foundation.seeded import seeded
from sooner.part import SURGERY
from sooner.recipe.slots import Slot


def operate(
    slots: Sequence[Slot], model: nn.Module, seed: int | None = None, *, done: bool = False
) -> tuple[nn.Module, list[Any]]:
    """Return the model after surgery, and the parts that did it.

    Args:
        slots: of the recipe, in order.
        model: the model, changed in place where a part does not return another one.
        seed: decides what is drawn; PyTorch's global state is then left as it was. None for that state.
        done: the model was changed already; the parts only take hold of it.

    Raises:
        SoonerError: a part that can't change this model.
    """
    parts = [s.make() for s in slots if s.station in SURGERY]
    with contextlib.nullcontext() if seed is None else seeded(seed):
        for part in parts:
            if not hasattr(part, "prepare"):
                raise SoonerError(
                    f"{type(part).__name__} is of the station {part.station} and has no method prepare(model); write "
                    "one that returns the model, or choose another station"
                )
            if done:
                part.follow(model)
            else:
                model = part.prepare(model)
    return model, parts
