"""An average for each tensor of a model, and which average is whose after the model has changed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from sooner.execute.shards import Spread, is_sharded, local, spread_of
from sooner.weights._followed import Place


@dataclass(eq=False)
class Average:
    """The average of one tensor of the model.

    Attributes:
        names: of the tensor at the last look.
        tensor: the tensor at the last look; None where the name has to find it.
        holders: the modules that had it then, each with the name it had there.
        taken: whether it is to be averaged: training moves the tensor, or did once.
        value: its average, this process's piece; None before its first step.
        start: how many steps were taken before its first.
        shape: of the whole tensor.
        spread: how it is spread over processes; None if this one has all of it.
        lent: inside views the training weights, each with its spread.
    """

    names: list[str]
    tensor: Tensor | None = None
    holders: list[tuple[nn.Module, str]] = field(default_factory=list)
    taken: bool = False
    value: Tensor | None = None
    start: int = 0
    shape: torch.Size = field(default_factory=torch.Size)
    spread: Spread | None = None
    lent: list[tuple[Tensor, Spread | None]] = field(default_factory=list)

    def shown(self) -> Tensor:
        """Return the average as the state has it."""
        assert self.value is not None
        if self.spread is None:
            return self.value
        return self.spread.shown(self.value, torch.empty(self.shape, device="meta"))


class Group:
    """Averages that start at the same step, and the tensors they are of."""

    def __init__(self, start: int, tensors: list[Tensor], values: list[Tensor]) -> None:
        self.start, self.tensors, self.values = start, tensors, values
        pairs = zip(tensors, values, strict=True)
        self.plain = all(t.dtype == v.dtype and t.device == v.device and not is_sharded(t) for t, v in pairs)


def followed(before: list[Average], found: list[Place], same_names: bool) -> tuple[list[Average], str]:
    """Return the averages of what the model has now, in its order, and why that can't be told, if it can't.

    An average goes with its tensor. A tensor that was not there before takes over the average of its module's former
    one, or of its name where the module is new, if that tensor is gone; was that tied to it, a copy of the average. Any
    other one that moves is new.

    Args:
        before: the averages at the last look.
        found: what the model has now.
        same_names: whether the model has the same names as at the last look.
    """
    of_tensor = {id(one.tensor): one for one in before if one.tensor is not None}
    of_holder = {(id(module), key): one for one in before for module, key in one.holders}
    of_name = {name: one for one in before for name in one.names}
    now = {id(of_tensor[id(p.tensor)]): p for p in found if id(p.tensor) in of_tensor}
    stayed = bool(now) or any((id(module), key) in of_holder for p in found for module, key in p.holders)
    pairs: list[tuple[Average, Place]] = []
    for place in found:
        one = of_tensor.get(id(place.tensor))
        if one is None:
            held = [of_holder[id(m), key] for m, key in place.holders if (id(m), key) in of_holder]
            had = held or [of_name[name] for name in place.names if name in of_name]
            if free := sorted((a for a in had if id(a) not in now), key=lambda a: a.value is None):
                several = len({id(a) for a in free if a.value is not None}) > 1
                if free[0].value is not None and (several or not (same_names or stayed)):
                    return before, _doubt.format(place.names[0])
                one, now[id(free[0])] = free[0], place
            elif (tied := next((a for a in had if _still_has(a, now[id(a)], bool(held))), None)) is not None:
                one = replace(tied, value=None if tied.value is None else tied.value.clone(), lent=[*tied.lent])
            else:
                one = Average([])
        pairs.append((one, place))
    if any(one.value is not None for one in before) and all(one.value is None for one, _ in pairs):
        return before, "the model has none of the averaged weights any more; make a new EMA of it"
    for one, place in pairs:
        one.names, one.holders, one.tensor = place.names, place.holders, place.tensor
        one.taken |= place.moves
    return [one for one, _ in pairs], ""


def _still_has(one: Average, place: Place, by_holder: bool) -> bool:
    """Whether a tensor that was averaged lost places, rather than having moved to others."""
    if by_holder:
        return {(id(m), key) for m, key in place.holders} <= {(id(m), key) for m, key in one.holders}
    return {*place.names} <= {*one.names}


_doubt = (
    "{} was replaced while the model got other names or ties, so which average is its own can't be told; "
    "ema.load_state_dict(ema.state_dict(), strict=False) goes by the names"
)


def respread(value: Tensor, spread: Spread | None, tensor: Tensor) -> Tensor:
    """Return a value as a piece that is laid out like the tensor; where it is so already, itself."""
    wanted = spread_of(tensor)
    if wanted == spread:
        return local(value)
    whole = value if spread is None else spread.shown(local(value), tensor).full_tensor()  # type: ignore[attr-defined]
    return whole if wanted is None else wanted.pieces_of_stack(whole[None])[0].clone()


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which numbers of this type are averaged."""
    return torch.float32 if dtype.itemsize < 4 else dtype
