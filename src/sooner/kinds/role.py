"""What one parameter is, and what it is called."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from sooner.foundation.model_names import plain_name

Kind = Literal["matrix", "depthwise", "embedding", "head", "gain", "bias", "token", "scalar"]

WEIGHTS: frozenset[str] = frozenset({"matrix", "depthwise", "embedding", "head"})
"""The kinds that multiply or are looked up, which is what weight decay is for."""


@dataclass(frozen=True)
class Role:
    """What one parameter is.

    Attributes:
        name: in the model, without what wrappers put before it; ``""`` for a bare tensor.
        kind: one of the kinds above.
        why: how that is known, in a few words.
        stacked: whether a matrix is stored as a stack ``[..., rows, columns]``; else it is ``[rows, *columns]``.
        transposed: whether it is stored ``[in, out]``, the other way round than `torch.nn.Linear` stores it.
    """

    name: str
    kind: Kind
    why: str
    stacked: bool = False
    transposed: bool = False


def bare_name(name: str) -> str:
    """Return a parameter's name without what wrappers (see `plain_name`) and adapters of peft put into it."""
    parts = [part for part in plain_name(name).split(".") if part != "original_module"]
    if parts[:2] == ["base_model", "model"]:
        parts = parts[2:]
    return re.sub(r"\.modules_to_save\.[^.]+|\.base_layer(?=\.|$)", "", "." + ".".join(parts))[1:]
