"""What a checkpoint is made of at the moment it is asked for: what must be copied at once, and what may wait.

Tensors that only the optimizers' step changes wait: parameters in their groups and what they keep for them. All else
may change during forward and backward (statistics of batch normalisation, random state, positions in data, averages)
and is copied at once, where it lies. This runs while training stands still, so it does little for each tensor.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sooner.error import SoonerError
from sooner.execute.shards import is_sharded, local
from sooner.foundation.model_names import unwrapped

_ATOMS = frozenset(
    {type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size, torch.layout}
)
_PLAIN = frozenset({Tensor, nn.Parameter})


_SMALL = 1024
"""A tensor of fewer elements is copied sooner than it is known to be one that may wait."""


class Capture:
    """A tree as it is now, in containers of its own.

    Args:
        content: by name modules, optimizers and all else that has a ``state_dict()``, or dicts, lists and tuples of
            plain values and tensors.
        optimizers: those whose tensors may wait.

    Attributes:
        tree: the content; its tensors are those that wait themselves, and copies of all others, each on its device.
        waiting: the tensors that wait, by their `id`.
        copied: the copies.
        sharded: whether a tensor is spread over processes.

    Raises:
        SoonerError: a value that a checkpoint does not hold, or a tensor without numbers.
    """

    def __init__(self, content: dict[str, Any], optimizers: Iterable[Optimizer]) -> None:
        self.waiting: dict[int, Tensor] = {}
        self.copied: list[Tensor] = []
        self._held = {id(tensor): tensor for tensor in _held_by(optimizers)}
        self._places: dict[Any, Tensor] | None = None
        self._behind: list[Tensor] = []
        self._known: dict[Any, tuple[Tensor, Tensor]] = {}
        with torch.no_grad():
            self.tree = {name: self._of(_state_of(one), name) for name, one in content.items()}
        self.sharded = any(type(t) not in _PLAIN and is_sharded(t) for t in (*self.waiting.values(), *self.copied))
        self._versions = self._now()

    def shows(self, model: nn.Module) -> bool:
        """Whether a weight of the model is in the content."""
        given = {place(tensor) for tensor in (*self.waiting.values(), *(one for one, _ in self._known.values()))}
        return not given.isdisjoint({place(p) for p in model.parameters()} - {None})

    def written_meanwhile(self) -> bool:
        """Whether a tensor that waits has been changed in place since, as far as PyTorch counts that."""
        return self._now() != self._versions

    def _now(self) -> list[int]:
        # an optimizer counts at the tensor that it holds, of which a state may have been given another view
        waiting = [*self.waiting.values(), *self._behind]
        try:
            return [tensor._version for tensor in waiting]
        except RuntimeError:  # tensors of inference mode have no count
            return [0 if tensor.is_inference() else tensor._version for tensor in waiting]

    def _of(self, value: Any, where: str) -> Any:
        kind = type(value)
        if isinstance(value, Tensor):
            return self._tensor(value, where)
        if kind in _ATOMS:
            return value
        if isinstance(value, dict):
            return self._dict(value, where)
        if kind is list or kind is tuple:
            return kind([self._of(one, f"{where}[{i}]") for i, one in enumerate(value)])
        if kind is set:
            return {self._of(one, where) for one in value}
        if isinstance(value, np.generic):
            return self._of(value.item(), where)
        how = "torch.from_numpy of it" if isinstance(value, np.ndarray) else "its state_dict() or plain values"
        raise SoonerError(
            f"lazy_saver: {where} is a {kind.__module__}.{kind.__qualname__}, which torch.load(weights_only=True) "
            f"would refuse; give {how}"
        )

    def _dict(self, value: dict[Any, Any], where: str) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        held, waiting = self._held, self.waiting
        for key, one in value.items():
            identity = id(one)
            if type(key) not in _ATOMS:
                key = self._of(key, f"a key of {where}")
            if identity in held and held[identity].layout == torch.strided:
                made[key] = waiting[identity] = one
            elif type(one) in _ATOMS:
                made[key] = one
            else:
                made[key] = self._of(one, f"{where}[{key!r}]")
        about = getattr(value, "_metadata", None)  # versions of modules, by which older states are told
        if about is not None:
            made = OrderedDict(made)
            made._metadata = about  # type: ignore[attr-defined]
        return made

    def _tensor(self, value: Tensor, where: str) -> Tensor:
        if value.is_meta:
            raise SoonerError(
                f"lazy_saver: {where} is on the meta device and has no numbers; give it some before saving"
            )
        if id(value) in self._held or (value.numel() >= _SMALL and self._lies_in_held(value)):
            self.waiting[id(value)] = value
            return value
        key = (place(value) if value.numel() > 1 else None) or id(value)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = value, value.detach().clone()  # with the original, so that it keeps its identity
            self.copied.append(known[1])
        return known[1]

    def _lies_in_held(self, value: Tensor) -> bool:
        """Whether it is a tensor that waits under another Python object, as in what ``model.state_dict()`` returns."""
        if self._places is None:
            self._places = {place(tensor): tensor for tensor in self._held.values()}
            self._places.pop(None, None)
        held = self._places.get(place(value))
        if held is not None:
            self._behind.append(held)
        return held is not None


def place(tensor: Tensor) -> Any:
    """Return where this process's piece of a tensor lies in memory and how; None where that can't be told."""
    piece = local(tensor)
    if piece.layout != torch.strided or not piece.numel():
        return None
    return piece.data_ptr(), piece.shape, piece.stride(), piece.dtype


def filled(tree: Any, copies: Mapping[int, Tensor]) -> Any:
    """Return a captured tree with other tensors, given by the `id` of those in it."""
    if isinstance(tree, Tensor):
        return copies[id(tree)]
    if isinstance(tree, dict):
        made = type(tree)((key, filled(one, copies)) for key, one in tree.items())
        if hasattr(tree, "_metadata"):
            made._metadata = tree._metadata  # type: ignore[attr-defined]
        return made
    if type(tree) in (list, tuple):
        return type(tree)(filled(one, copies) for one in tree)
    return tree


def _held_by(optimizers: Iterable[Optimizer]) -> Iterable[Tensor]:
    """Yield the parameters of optimizers, and the tensors that they keep for them."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            yield from group["params"]
        for kept in optimizer.state.values():
            if isinstance(kept, dict):
                yield from (value for value in kept.values() if isinstance(value, Tensor))


def _state_of(one: Any) -> Any:
    """Return what a checkpoint keeps of an object: its state, a module's by the names that it has without wrappers."""
    if isinstance(one, nn.Module):
        return unwrapped(one).state_dict(keep_vars=True)  # the parameters themselves, by which they are known
    return one.state_dict() if hasattr(one, "state_dict") else one
