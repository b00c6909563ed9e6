"""State that rules keep once for the whole model: every parameter shows the same tensor, also those that sit out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor

from sooner.execute.counted import capturing, refuse_capture
from sooner.transform import Chain, Reduction


def find_shared(kept: Mapping[Tensor, Mapping[str, Any]], chains: Iterable[Chain], shared: dict[str, Tensor]) -> None:
    """Find what rules for the whole model keep: what was put there since, else what there is.

    Args:
        kept: per parameter the state it has; where several differ, the one with the most steps counts.
        chains: what runs; their model rules say the names.
        shared: what is known, by name; it is brought up to date.
    """
    rules = [rule for chain in chains for rule in chain.rules]
    for name in {name for r in rules if isinstance(r, Reduction) and r.over == "model" for name in r.memory}:
        there = [state for state in kept.values() if name in state]
        put = [state for state in there if state[name] is not shared.get(name)]
        if put or not there:
            shared.pop(name, None)
        if put:
            value = torch.as_tensor(max(put, key=steps_of)[name]).detach()
            wide = value.dtype if value.dtype.is_floating_point and value.dtype.itemsize >= 4 else torch.float32
            shared[name] = value.to(wide, copy=True)


def show_shared(kept: Mapping[Tensor, MutableMapping[str, Any]], shared: Mapping[str, Tensor]) -> None:
    """Let all parameters that have such state show the same."""
    for name, tensor in shared.items():
        for state in kept.values():
            if name in state:
                state[name] = tensor


def steps_of(state: Mapping[str, Any] | None) -> int:
    """Return the number of steps that a parameter's state counts; 0 where there is none."""
    if not state or "step" not in state:
        return 0
    step = state["step"]
    if isinstance(step, Tensor) and capturing(step.device):
        raise refuse_capture()
    return int(step)
