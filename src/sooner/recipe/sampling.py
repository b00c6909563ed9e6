"""What a recipe's part of the data station draws, which the loop asks for by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sooner.error import SoonerError
from sooner.recipe.slots import Slot


def sampler(slots: Sequence[Slot], examples: Any, steps: int, seed: int, rank: int, world: int) -> Any:
    """Return what gives the positions of every step's examples as ``sampler[step]``; None without a data part.

    Args:
        slots: of the recipe.
        examples: with ``batch_size`` and what the part needs of ``domains``, ``labels`` and ``weights``.
        steps: batches of the whole run.
        seed: decides, with the step, what is drawn; the same on all workers.
        rank: this worker's number.
        world: how many workers share a batch.

    Raises:
        SoonerError: the examples have none of what the part needs.
    """
    for s in slots:
        if s.station != "data":
            continue
        known = {name: getattr(examples, name) for name in ("domains", "labels", "weights") if name in s.takes}
        for name, value in known.items():
            if value is None and name in s.needs:
                raise SoonerError(f"{s.name} needs {name}, which these examples do not have; give them to Examples")
        filled = {"batch_size": examples.batch_size, "steps": steps, "seed": seed, "rank": rank, "world": world}
        return s.make(**known, **{name: value for name, value in filled.items() if name in s.takes})
    return None
