"""State files of optimizers: refusing what does not fit before anything changes, and loading without rounding."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from sooner.error import SoonerError
from sooner.execute import state_dtype
from sooner.execute.cohort import MASTER
from sooner.execute.low_bits import SCALE, form_of
from sooner.execute.shards import is_sharded
from sooner.transform import Chain
from sooner.update._matching import Difference, matched


class Chained(Protocol):
    """What a state file has to do with of an optimizer; see `ChainOptimizer`."""

    param_groups: list[dict[str, Any]]
    state: Any

    @classmethod
    def name(cls) -> str: ...

    @property
    def optional_slots(self) -> frozenset[str]: ...

    def shares(self, group: dict[str, Any]) -> Sequence[tuple[list[Tensor], dict[str, Any]]]: ...

    def full_rule(self, settings: dict[str, Any]) -> Chain: ...


def not_a_state(name: str) -> SoonerError:
    """Return the error for something that is no optimizer state at all."""
    return SoonerError(f"{name}: this is not an optimizer state; pass what optimizer.state_dict() returned")


def match_state(optimizer: Chained, state_dict: dict[str, Any], *, strict: bool) -> tuple[dict[str, Any], Difference]:
    """Return a state with parameters as this optimizer numbers them, and what that leaves open.

    Raises:
        SoonerError: it is no state, or one of other parameters.
    """
    try:
        return matched(optimizer.name(), state_dict, optimizer.param_groups, strict=strict)
    except (KeyError, TypeError, AttributeError):
        raise not_a_state(optimizer.name()) from None


def check_state(optimizer: Chained, state_dict: dict[str, Any]) -> None:
    """Refuse a state that does not fit.

    Raises:
        SoonerError: the state belongs to another method, other groups or other shapes.
    """
    name = optimizer.name()
    with contextlib.suppress(KeyError, TypeError, AttributeError):
        groups = state_dict["param_groups"]
        theirs, ours = ([len(g["params"]) for g in some] for some in (groups, optimizer.param_groups))
        if theirs != ours:
            raise SoonerError(f"{name}: the state is for groups of {theirs} parameters, this optimizer has {ours}")
        for group in groups:
            if group.get("decoupled_weight_decay") is False and group.get("weight_decay"):
                raise SoonerError(
                    f"{name}: the state is of torch.optim.Adam with weight_decay={group['weight_decay']}, added "
                    f"to the gradient, where {name} shrinks the weights themselves; go on with that one, or set "
                    "weight_decay to 0 in the groups of the state"
                )
        shapes = _shapes_under(optimizer, groups)
        for number, p in _numbered(state_dict, optimizer.param_groups):
            kept = state_dict["state"].get(number, {})
            slots = {slot for slot in kept if slot != "step" and slot.removesuffix(SCALE) not in set(kept) - {slot}}
            if kept and not set(shapes[p]) <= slots <= {*shapes[p], *optimizer.optional_slots, MASTER}:
                raise SoonerError(
                    f"{name}: the state holds {sorted(slots)} where this method keeps {sorted(shapes[p])}; it was "
                    "saved by another method"
                )
            for slot, shape in shapes[p].items() if kept else ():
                if tuple(kept[slot].shape) != shape and form_of(kept, slot, shape) is None:
                    raise SoonerError(
                        f"{name}: {slot} of parameter {number} has shape {tuple(kept[slot].shape)}, for a "
                        f"parameter of shape {tuple(p.shape)} it must be {shape}; load the state of the same model"
                    )
        return
    raise not_a_state(name)


def restore_precision(optimizer: Chained, state_dict: dict[str, Any]) -> None:
    """Put the state back unrounded: torch casts it to the parameter's dtype, ours stays in float32 for halves."""
    for number, p in _numbered(state_dict, optimizer.param_groups):
        saved = state_dict["state"].get(number)
        if not saved:
            continue
        for slot in set(saved) - {"step"}:
            dtype = torch.uint8 if saved[slot].dtype == torch.uint8 else state_dtype(p.dtype)
            precise = saved[slot].detach().to(p.device, dtype, copy=True)
            optimizer.state[p][slot] = precise if is_sharded(precise) else precise.contiguous()
        # torch.optim's SGD and Muon count no steps; that there is state means that at least one was taken
        optimizer.state[p]["step"] = torch.tensor(float(saved.get("step", 1)))


def _shapes_under(optimizer: Chained, saved: list[dict[str, Any]]) -> dict[Tensor, dict[str, tuple[int, ...]]]:
    """Return what is kept per parameter with the saved hyper-parameters, which loading brings along."""
    before = optimizer.param_groups
    merged = [{**ours, **theirs, "params": ours["params"]} for ours, theirs in zip(before, saved, strict=True)]
    optimizer.param_groups = merged
    try:
        shares = [share for group in merged for share in optimizer.shares(group)]
        chains = [(params, optimizer.full_rule(settings)) for params, settings in shares]
        return {p: rules.shapes(tuple(p.shape)) for params, rules in chains for p in params}
    finally:
        optimizer.param_groups = before


def _numbered(state_dict: dict[str, Any], groups: list[dict[str, Any]]) -> list[tuple[int, Tensor]]:
    """Return (number in the saved state, parameter) for every parameter of the groups."""
    numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
    return list(zip(numbers, (p for group in groups for p in group["params"]), strict=True))
