"""Gradients that are added to others only once it is known how much they count."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from sooner.objective.counting import Count


class Aside:
    """Inside, gradients that were there before are kept apart from new ones, which `end` multiplies by a number."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self._parameters = list(dict.fromkeys(parameters))
        self._before = [(p, p.grad) for p in self._parameters if p.grad is not None]

    def __enter__(self) -> Aside:
        for p, _ in self._before:
            p.grad = None
        return self

    @torch.no_grad()
    def end(self, factor: Count) -> None:
        """Multiply the new gradients and add them to the old ones, in the old ones' memory."""
        if isinstance(factor, Tensor) or factor != 1:
            _multiply([p.grad for p in self._parameters if p.grad is not None], factor)
        for p, before in self._before:
            if p.grad is not None:
                before.add_(p.grad)

    def __exit__(self, *_: object) -> None:
        for p, before in self._before:
            p.grad = before


def _multiply(gradients: Sequence[Tensor], factor: Count) -> None:
    kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for g in gradients:
        if g.layout != torch.strided:
            g.mul_(factor)
        else:
            piece = g.to_local() if hasattr(g, "to_local") else g  # of a DTensor
            kinds.setdefault((piece.device, piece.dtype), []).append(piece)
    for (device, dtype), some in kinds.items():
        if not isinstance(factor, Tensor):
            torch._foreach_mul_(some, factor)
        elif dtype.itemsize >= 4:
            torch._foreach_mul_(some, factor.to(device, dtype))
        else:
            for g in some:  # a factor rounded to a half would be wrong by up to 0.4 %
                g.copy_(g.float() * factor.to(device, torch.float32))
