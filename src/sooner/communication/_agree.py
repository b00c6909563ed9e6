"""Ranks compare what they are about to train, before anything else crosses the wire."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from torch import nn

from sooner.communication._wire import Wire
from sooner.error import SoonerError
from sooner.part import Part
from sooner.version import __version__

Description = Mapping[str, Mapping[str, str]]
"""Kind of thing -> name -> what it is here."""


def describe(model: nn.Module, parts: Sequence[Part]) -> Description:
    """Return all that must be the same on every rank."""
    tensors = {"parameter": model.named_parameters(), "buffer": model.named_buffers()}
    found = {
        kind: {n: f"{list(t.shape)} {t.dtype}{'' if t.requires_grad else ', frozen'}" for n, t in named}
        for kind, named in tensors.items()
    }
    sent = {str(number): repr(part) for number, part in enumerate(sorted(parts, key=repr))}
    return {"version of sooner": {"": __version__}, "part": sent, **found}


def agree(wire: Wire, ours: Description, refusal: str = "") -> None:
    """Raise the same error on all ranks where one of them differs from rank 0, or refuses to begin.

    Args:
        wire: connects the ranks.
        ours: description of this rank.
        refusal: why this rank can't begin; empty if it can.

    Raises:
        SoonerError: names the first difference and the rank.
    """
    digest = hashlib.sha256(json.dumps(ours).encode()).hexdigest()
    heard: list[tuple[str, str]] = wire.tell((digest, refusal))
    for rank, (_, why) in enumerate(heard):
        if why:
            raise SoonerError(why if wire.size == 1 else f"rank {rank}: {why}")
    if len({one for one, _ in heard}) == 1:
        return
    everyone: list[Description] = wire.tell(ours)  # long for a large model, so only told where it matters
    for rank, theirs in enumerate(everyone[1:], 1):
        if difference := _difference(everyone[0], theirs):
            raise SoonerError(
                f"rank {rank} is about to train something else than rank 0: {difference}; start the same program with "
                "the same settings everywhere"
            )


def _difference(first: Description, other: Description) -> str:
    for kind in first:
        a, b = first[kind], other[kind]
        for name in (*a, *(n for n in b if n not in a)):
            if a.get(name) != b.get(name):
                named = f"{kind} {name}" if kind in ("parameter", "buffer") else kind
                return f"{named} is {b.get(name, 'absent')} there and {a.get(name, 'absent')} on rank 0"
        if list(a) != list(b):
            return f"the {kind}s come in another order"
    return ""
