"""What a model and its optimizers hold, compared at every step with what they held before: identities and types only.

A frozen, replaced, resized, cast, moved or tied parameter and an edited group are noticed; numbers are not looked at.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sooner.communication import _meeting as meeting
from sooner.foundation.model_names import plain_names


class Watch:
    """Remembers the parameters of a model and of its optimizers, and says what has become of them.

    Args:
        model: the model.
        optimizers: those that move its weights.
    """

    def __init__(self, model: nn.Module, optimizers: Sequence[Optimizer]) -> None:
        self._model, self._optimizers = model, optimizers
        self.remember()

    def remember(self) -> None:
        """Take it that all is as it should be now."""
        self.named = named(self._model)
        """All parameters by plain name, tied ones once, frozen ones too."""
        modules = list(self._model.modules())
        holders: list[dict[str, Any]] = [m._parameters for m in modules] + [m._modules for m in modules]
        self._held = [(holder, tuple(holder.values())) for holder in holders]
        self._tensors = list(self.named.values())
        self.shapes = {name: p.shape for name, p in self.named.items()}
        self._traits = _traits(self._tensors)
        self._grouped: list[Tensor] = []
        self._strangers: list[Tensor] = []

    def change(self) -> tuple[int, int] | None:
        """Return what has become of which parameter (its number in `named`) since `remember`; None for nothing."""
        holds = all(len(d) == len(v) and all(map(operator.is_, d.values(), v)) for d, v in self._held)
        if holds and _traits(self._tensors) == self._traits:
            return None
        now = named(self._model)
        found = self._difference(now)
        if found is None:  # other modules around the same parameters
            self.remember()
        return found

    def _difference(self, now: dict[str, nn.Parameter]) -> tuple[int, int] | None:
        for number, (name, before) in enumerate(self.named.items()):
            if name not in now:
                return meeting.REMOVED, number
            if now[name] is not before:
                return meeting.REPLACED, number
        traits = _traits(self._tensors)
        for number, (then, later) in enumerate(zip(self._traits, traits, strict=True)):
            if then == later:
                continue
            if then[0] != later[0]:
                return (meeting.UNFROZEN if later[0] else meeting.FROZEN), number
            same = [a == b for a, b in zip(then[1:], later[1:], strict=True)]
            return (meeting.CAST, meeting.MOVED, meeting.RESIZED)[same.index(False)], number
        if len(now) == len(self.named):
            return None
        added = next((n for n, (a, b) in enumerate(zip(self.named, now, strict=False)) if a != b), len(self.named))
        return meeting.ADDED, max(added - 1, 0)

    def strangers(self) -> list[Tensor]:
        """Return the parameters that an optimizer holds and the model does not have."""
        grouped = [p for one in self._optimizers for group in one.param_groups for p in group["params"]]
        if len(grouped) != len(self._grouped) or not all(map(operator.is_, grouped, self._grouped)):
            self._grouped, known = grouped, set(map(id, self._tensors))
            self._strangers = [p for p in grouped if id(p) not in known]
        return self._strangers


def named(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters by plain name, tied ones once."""
    found = dict(model.named_parameters())
    plain = plain_names(found)
    return {plain[name]: p for name, p in found.items()}


def _traits(tensors: Sequence[Tensor]) -> list[tuple[bool, torch.dtype, torch.device, torch.Size]]:
    return [(t.requires_grad, t.dtype, t.device, t.shape) for t in tensors]
