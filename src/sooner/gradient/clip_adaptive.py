"""Adaptive gradient clipping: the gradient of every output unit stays below a fraction of the norm of its weights.

    limit_i = clipping * max(||w_i||, eps);   g_i <- g_i * limit_i / ||g_i||  where  ||g_i|| > limit_i

Here i runs over the rows of a weight (all but its first dimension); a bias or gain is a single row.

Use it when layers differ in the size of their weights, as in networks without normalization.

Leave it when parameters start at zero: their limit starts at `eps`.

It costs norms of weights and gradients per step; no state; nothing on the wire.

Brock et al., 2021, arXiv 2102.06171, eq. 3.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sooner.error import SoonerError
from sooner.gradient._gradient import GradientPart
from sooner.part import check_flags, check_range
from sooner.space import Knob, Log
from sooner.transform import Clock, Reduction, Scope, State


@dataclass(frozen=True)
class ShortenRows(Reduction):
    """Scales every row of the gradient down to `clipping` times the norm of the same row of the weight."""

    clipping: float
    eps: float
    over: ClassVar[Scope] = "row"
    reads_theta: ClassVar[bool] = True

    def prepare(
        self, u: Tensor, state: State, theta: Tensor | None, clock: Clock
    ) -> tuple[Tensor, State, tuple[Tensor, ...]]:
        """Add up the squares of the gradient and of the weight."""
        return u, state, (u * u, theta * theta)  # type: ignore[operator]

    def decide(
        self, sums: tuple[Tensor, ...], memory: State, shape: tuple[int, ...], clock: Clock
    ) -> tuple[tuple[Tensor, ...], State]:
        """``min(1, limit / ||g||)`` for every row."""
        gradient, weight = (one.sqrt() for one in sums)
        limit = self.clipping * weight.clamp(min=self.eps)
        return (torch.where(gradient > limit, limit / gradient.clamp(min=1e-6), 1.0),), memory

    def finish(self, u: Tensor, theta: Tensor | None, numbers: tuple[Tensor, ...], clock: Clock) -> Tensor:
        """Multiply by it."""
        return u * numbers[0]


class ClipAdaptive(GradientPart):
    """Adaptive gradient clipping (AGC), made for networks without normalisation layers.

    Args:
        optimizer: one optimizer or a list of them.
        clipping: largest ratio of a row's gradient to its weight, default 0.01 (the authors' for batches of 4096; 0.02
            to 0.16 for smaller ones).
        eps: floor of the weight's norm, so that rows of zeros can move, default 1e-3.
        skip_last: leave the output layer's gradients alone, as the authors do, default False; needs `model`.
        model: the model; the output layer is its last module that holds a weight of two or more dimensions.

    Raises:
        SoonerError: a hyper-parameter out of range, or no model or output layer where `skip_last` asks for it.
    """

    owns = frozenset({"gradient norm of rows"})
    space: ClassVar[Mapping[str, Knob]] = {"clipping": Log(1e-3, 0.3)}

    def __init__(
        self,
        optimizer: Optimizer | Sequence[Optimizer],
        clipping: float = 0.01,
        eps: float = 1e-3,
        skip_last: bool = False,
        model: nn.Module | None = None,
    ) -> None:
        check_range("clip_adaptive", "clipping", clipping, 0.0, math.inf)
        check_range("clip_adaptive", "eps", eps, 0.0, math.inf)
        check_flags("clip_adaptive", skip_last=skip_last)
        output = functools.partial(_output_layer, model) if skip_last else None
        if output is not None:
            output()  # refuses early
        super().__init__(optimizer, ShortenRows(clipping, eps), output)


def _output_layer(model: nn.Module | None) -> list[Tensor]:
    """Return the parameters of the model's last module with a weight of two or more dimensions."""
    modules = list(model.modules()) if model is not None else []
    holders = [m for m in modules if any(p.ndim >= 2 for p in m.parameters(recurse=False))]
    if not holders:
        raise SoonerError("clip_adaptive: skip_last=True finds no output layer; pass the model it is in with model=")
    return list(holders[-1].parameters(recurse=False))
